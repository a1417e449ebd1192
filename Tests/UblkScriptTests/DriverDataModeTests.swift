import CUring
import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// How the transport of a real device gets at the data of requests, in each mode.
@Suite struct DriverDataModeTests {
    // MARK: NEED_GET_DATA

    /// 6.12 gives the data some time after it was asked for, later kernels at once.
    @Test(arguments: [false, true])
    func `a write that is announced is heard of when its data is in its tag's buffer`(
        later: Bool
    ) throws {
        let (kernel, memory) = (try FakeUblk(mode: .needGetData), try DriverTransportTests.memory())
        kernel.givesDataLater = later
        var transport = try DriverTransportTests.transport(kernel, memory)
        transport.fetchAll()
        kernel.data[2] = Array(repeating: 7, count: 4096)
        let came = DriverTransportTests.events(&transport, kernel) {
            kernel.arrive(2, .write)
            kernel.arrive(1, .read)
        }
        #expect(came == ["fetched 1"] && kernel.buffers == [0: 0, 1: 0, 2: 0, 3: 0])
        let given = DriverTransportTests.events(&transport, kernel) {
            if later { kernel.giveData(2) }
        }
        #expect(given == ["fetched 2"])
        kernel.waits = []
        let place = unsafe memory.first + 2 * memory.stride
        let address = unsafe UInt64(UInt(bitPattern: memory.first)) + UInt64(2 * memory.stride)
        #expect(kernel.buffers[2] == address)
        #expect(unsafe (place + 4095).load(as: UInt8.self) == 7)
        transport.commit(Tag(2), Commit(result: -28))
        transport.commit(Tag(1), Commit(result: 4096))
        #expect(DriverTransportTests.events(&transport, kernel) { kernel.arrive(2, .write) } == [])
        #expect(kernel.commits == [.init(tag: 2, result: -28), .init(tag: 1, result: 4096)])
    }

    @Test func `a device that goes takes a write back whose data was asked for`() throws {
        let (kernel, memory) = (try FakeUblk(mode: .needGetData), try DriverTransportTests.memory())
        kernel.givesDataLater = true
        var transport = try DriverTransportTests.transport(kernel, memory)
        transport.fetchAll()
        #expect(DriverTransportTests.events(&transport, kernel) { kernel.arrive(2, .write) } == [])
        let gone = DriverTransportTests.events(&transport, kernel) { kernel.goAway() }
        #expect(gone == ["aborted 0", "aborted 1", "aborted 2", "aborted 3"])
    }

    // MARK: User copy

    @Test(arguments: [0, 3] as [UInt16])
    func `with user copy no command has an address, and data is copied at the place of its tag`(
        queue: UInt16
    ) throws {
        let (kernel, memory) = (
            try FakeUblk(queue: queue, mode: .userCopy), try DriverTransportTests.memory()
        )
        var transport = try DriverTransportTests.transport(kernel, memory)
        transport.fetchAll()
        let written = (0..<4096).map { UInt8(truncatingIfNeeded: $0 / 16) }
        kernel.data[2] = written
        let came = DriverTransportTests.events(&transport, kernel) {
            kernel.arrive(2, .write)
            kernel.arrive(1, .read)
        }
        #expect(came == ["fetched 2", "fetched 1"] && kernel.buffers == [0: 0, 1: 0, 2: 0, 3: 0])
        let buffer = unsafe transport.data(Tag(2)).bytes
        #expect(unsafe Array(UnsafeRawBufferPointer(start: buffer, count: 4096)) != written)
        #expect(transport.pullData(Tag(2), bytes: 4096) == 0)
        #expect(unsafe Array(UnsafeRawBufferPointer(start: buffer, count: 4096)) == written)
        unsafe transport.data(Tag(1)).bytes.copyMemory(from: buffer, byteCount: 4096)
        #expect(transport.pushData(Tag(1), bytes: 4096) == 0 && kernel.data[1] == written)
        transport.commit(Tag(1), Commit(result: 4096))
        _ = DriverTransportTests.events(&transport, kernel) { kernel.arrive(1, .read) }
        #expect(kernel.commits == [.init(tag: 1, result: 4096)])
    }

    @Test(
        arguments: [
            ([512, 1], 0, ["0+4096", "512+3584", "513+3583"]),
            ([0], 14, ["0+4096"]),
            ([1024, 0], 14, ["0+4096", "1024+3072"]),
            ([-13], 13, ["0+4096"]),
        ] as [([Int], Int32, [String])]
    )
    func `a copy goes on after a part of it, and ends with what the driver says`(
        results: [Int],
        errno: Int32,
        parts: [String]
    ) throws {
        let (kernel, memory) = (try FakeUblk(mode: .userCopy), try DriverTransportTests.memory())
        var transport = try DriverTransportTests.transport(kernel, memory)
        transport.fetchAll()
        kernel.data[2] = Array(repeating: 7, count: 4096)
        _ = DriverTransportTests.events(&transport, kernel) {
            kernel.arrive(2, .write)
            kernel.arrive(3, .read)
        }
        kernel.copyResults = results
        #expect(transport.pullData(Tag(2), bytes: 4096) == errno)
        kernel.copyResults = results
        unsafe transport.data(Tag(3)).bytes.initializeMemory(
            as: UInt8.self,
            repeating: 7,
            count: 4096
        )
        #expect(transport.pushData(Tag(3), bytes: 4096) == errno)
        #expect(kernel.copies == parts.map { "pull 2 " + $0 } + parts.map { "push 3 " + $0 })
        guard errno == 0 else { return }
        #expect(unsafe transport.data(Tag(2)).bytes.load(fromByteOffset: 4095, as: UInt8.self) == 7)
        #expect(kernel.data[3] == kernel.data[2])
    }

    /// On the server's wish, or by the driver itself.
    @Test(arguments: [DataMode.zeroCopy, .autoBuf])
    func `with zero copy each tag has its place in a table, and files get its pages`(
        mode: DataMode
    ) throws {
        let (kernel, memory) = (try FakeUblk(mode: mode), try DriverTransportTests.memory())
        var transport = try DriverTransportTests.transport(kernel, memory, backingFDs: [7])
        #expect(kernel.buffersMade == 4)
        transport.fetchAll()
        let came = DriverTransportTests.events(&transport, kernel) {
            kernel.arrive(3, .read)
            kernel.arrive(1, .write)
        }
        #expect(came == ["fetched 3", "fetched 1"], "no command was refused")
        transport.lend(Tag(3))
        transport.lend(Tag(1))
        var operation = DriverTransportTests.read
        operation.isOnRequest = true
        transport.submit(operation, for: Tag(3), transfer: 0)
        operation = FileOperation(
            kind: .writeDurably,
            file: 0,
            offsetBytes: 8192,
            lengthBytes: 512,
            dataOffset: 1024,
            isOnRequest: true
        )
        transport.submit(operation, for: Tag(1), transfer: 1)
        transport.submit(DriverTransportTests.read, for: Tag(1), transfer: 2)
        let ended = DriverTransportTests.events(&transport, kernel) {
            for _ in 0..<3 { kernel.finishOperation(512) }
        }
        #expect(ended.count == 3)
        #expect(kernel.onPages == ["read 3 0+4096", "write 1 1024+512"])
        #expect(kernel.lent == (mode == .zeroCopy ? [1, 3] : []))
        for tag in [Tag(3), Tag(1)] {
            transport.takeBack(tag)
            transport.commit(tag, Commit(result: 4096))
        }
        let again = DriverTransportTests.events(&transport, kernel) { kernel.arrive(3, .read) }
        #expect(again == ["fetched 3"] && kernel.lent.isEmpty)
        #expect(kernel.commits.map(\.tag) == [3, 1])
    }

    @Test func `pages that are not lent are told of before the operations that needed them`() throws
    {
        let (kernel, memory) = (
            try FakeUblk(mode: .zeroCopy), try DriverTransportTests.memory()
        )
        var transport = try DriverTransportTests.transport(kernel, memory, backingFDs: [7])
        transport.fetchAll()
        _ = DriverTransportTests.events(&transport, kernel) { kernel.arrive(3, .read) }
        kernel.loanRefusals = [.noMemory]
        var operation = DriverTransportTests.read
        operation.isOnRequest = true
        transport.lend(Tag(3))
        transport.submit(operation, for: Tag(3), transfer: 0)
        let told = DriverTransportTests.events(&transport, kernel) {}
        #expect(told == ["not lent 3", "operation 3.0: -14"])
    }

    @Test func `a loan that the driver does not end stops the program`() async {
        await #expect(processExitsWith: .failure) {
            let (kernel, memory) = (
                try FakeUblk(mode: .zeroCopy), try DriverTransportTests.memory()
            )
            var transport = try DriverTransportTests.transport(kernel, memory)
            transport.fetchAll()
            _ = DriverTransportTests.events(&transport, kernel) { kernel.arrive(3, .read) }
            transport.takeBack(Tag(3))
            transport.wait(until: nil)
            _ = transport.nextEvent()
        }
    }
}
