import CUring
import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// How the transport of a real device fetches and commits many tags at a time (UBLK_F_BATCH_IO).
@Suite struct DriverBatchTests {
    static func memory(depth: Int = 4) throws -> TagBuffers {
        try TagBuffers(depth: depth, maxIOBytes: 4096, isBatched: true)
    }

    /// All tags are the driver's.
    static func transport(
        _ kernel: FakeUblk,
        _ memory: TagBuffers
    ) throws -> DriverTransport<FakeUblk> {
        var transport = try DriverTransportTests.transport(kernel, memory)
        transport.fetchAll()
        transport.wait(until: nil)
        while transport.nextEvent() != nil {}
        return transport
    }

    @Test func `all tags are the driver's by one command, and another one brings their requests`()
        throws
    {
        let (kernel, memory) = (try FakeUblk(queue: 3, mode: .batch), try Self.memory())
        var transport = try DriverTransportTests.transport(kernel, memory)
        transport.fetchAll()
        #expect(kernel.parkedTags.isEmpty)
        transport.sendFetches()
        #expect(kernel.batch.prepares == 1 && kernel.batch.fetches == 1)
        let first = unsafe UInt64(UInt(bitPattern: memory.first))
        for tag in 0..<4 {
            #expect(kernel.buffers[UInt16(tag)] == first + UInt64(tag * memory.stride))
        }
    }

    /// The answer to the results is there at once, and would end a wait for one completion.
    @Test
    func `requests that come together are told one by one, and their results are one command`()
        throws
    {
        let (kernel, memory) = (try FakeUblk(mode: .batch), try Self.memory())
        var transport = try DriverBatchTests.transport(kernel, memory)
        let came = DriverTransportTests.events(&transport, kernel) {
            kernel.arrive(2, .write, sector: 16)
            kernel.arrive(0, .flush)
            kernel.arrive(3, .read)
        }
        #expect(came == ["fetched 2", "fetched 0", "fetched 3"])
        #expect(transport.desc(Tag(2)).offsetBytes == 8192)
        transport.commit(Tag(3), Commit(result: 4096))
        transport.commit(Tag(2), Commit(result: -5))
        transport.commit(Tag(0), Commit(result: 0))
        #expect(kernel.commits.isEmpty)
        let again = DriverTransportTests.events(&transport, kernel) { kernel.arrive(2, .read) }
        #expect(again == ["fetched 2"])
        #expect(kernel.batch.commits == [3] && kernel.batch.fetches == 1)
        #expect(
            kernel.commits == [
                .init(tag: 3, result: 4096), .init(tag: 2, result: -5), .init(tag: 0, result: 0),
            ]
        )
    }

    /// Most of them cannot be one command, as their elements go over the end of the room for them.
    @Test(arguments: [1, 3, 5, 128])
    func `each result is taken once, however many come together`(depth: Int) throws {
        let kernel = try FakeUblk(mode: .batch)
        let memory = try Self.memory(depth: depth)
        var transport = try DriverBatchTests.transport(kernel, memory)
        var random = SplitMix64(seed: 1, queue: 0, stream: 0)
        var sent: [FakeUblk.Commit] = []
        for round in 0..<50 {
            let tags = (0..<depth).filter { _ in random.next() % 2 == 0 }.map { UInt16($0) }
            let came = DriverTransportTests.events(&transport, kernel) {
                for tag in tags { kernel.arrive(tag, .read) }
                // So that the wait ends without a request.
                var one: UInt64 = 1
                precondition(unsafe write(kernel.wakeupFD, &one, 8) == 8)
            }
            #expect(came.filter { $0 != "wakeup" } == tags.map { "fetched \($0)" })
            for tag in tags.reversed() {
                let result = Int32(round * 1000) + Int32(tag)
                transport.commit(Tag(tag), Commit(result: result))
                sent.append(.init(tag: tag, result: result))
            }
        }
        kernel.waits = []
        _ = DriverTransportTests.events(&transport, kernel) { kernel.arrive(0, .read) }
        #expect(kernel.commits == sent)
    }

    @Test func `when all buffers were full the requests that wait are asked for again`() throws {
        let kernel = try FakeUblk(mode: .batch)
        let memory = try Self.memory(depth: 300)
        var transport = try DriverBatchTests.transport(kernel, memory)
        kernel.batch.tagsMax = 1
        let came = DriverTransportTests.events(&transport, kernel) {
            for tag in 0..<300 { kernel.arrive(UInt16(tag), .read) }
        }
        #expect(came.count == 256 && kernel.batch.fetches == 1)
        let rest = DriverTransportTests.events(&transport, kernel) {}
        #expect(rest.count == 44 && kernel.batch.fetches == 2)
        #expect(Set(came + rest).count == 300)
    }

    // MARK: The device goes

    @Test(arguments: [Errno.operationNotSupportedByDevice, .canceled])
    func `a device that goes takes its tags at once, and one that is served after its commit`(
        errno: Errno
    ) throws {
        let (kernel, memory) = (try FakeUblk(mode: .batch), try Self.memory())
        var transport = try DriverBatchTests.transport(kernel, memory)
        _ = DriverTransportTests.events(&transport, kernel) { kernel.arrive(1, .read) }
        let gone = DriverTransportTests.events(&transport, kernel) { kernel.goAway(errno) }
        #expect(gone == ["aborted 0", "aborted 2", "aborted 3"])
        transport.commit(Tag(1), Commit(result: 4096))
        #expect(transport.nextEvent() == nil, "it has not been sent")
        #expect(DriverTransportTests.events(&transport, kernel) {} == ["aborted 1"])
        #expect(kernel.commits == [.init(tag: 1, result: 4096)])
    }

    @Test func `a request that comes with the end of the device is served before its tag is gone`()
        throws
    {
        let (kernel, memory) = (try FakeUblk(mode: .batch), try Self.memory())
        var transport = try DriverBatchTests.transport(kernel, memory)
        let came = DriverTransportTests.events(&transport, kernel) {
            kernel.arrive(3, .read)
            kernel.bringTags()
            kernel.goAway()
        }
        #expect(came == ["fetched 3", "aborted 0", "aborted 1", "aborted 2"])
        transport.commit(Tag(3), Commit(result: 4096))
        #expect(DriverTransportTests.events(&transport, kernel) {} == ["aborted 3"])
    }

    @Test(arguments: [0, 1])
    func `a result that the driver does not take stops the program`(taken: Int) async {
        await #expect(processExitsWith: .failure) { [taken] in
            let (kernel, memory) = (try FakeUblk(mode: .batch), try DriverBatchTests.memory())
            var transport = try DriverBatchTests.transport(kernel, memory)
            _ = DriverTransportTests.events(&transport, kernel) {
                kernel.arrive(1, .read)
                kernel.arrive(2, .read)
            }
            kernel.batch.takes = [taken]
            transport.commit(Tag(1), Commit(result: 4096))
            transport.commit(Tag(2), Commit(result: 4096))
            _ = DriverTransportTests.events(&transport, kernel) { kernel.arrive(0, .read) }
        }
    }
}
