import CUring
import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// The transport of a real device, with a kernel that does what is rare.
@Suite struct DriverTransportTests {
    static let depth = 4

    static func memory() throws -> TagBuffers { try TagBuffers(depth: depth, maxIOBytes: 65536) }

    static func transport(
        _ kernel: FakeUblk,
        _ memory: TagBuffers,
        backingFDs: [Int32] = []
    ) throws -> DriverTransport<FakeUblk> {
        try DriverTransport(
            queue: kernel.queue,
            memory: memory,
            mode: kernel.mode,
            descriptorBytes: kernel.descriptorBytes,
            characterFD: kernel.characterFD,
            wakeupFD: kernel.wakeupFD,
            backingFDs: backingFDs,
            kernel: kernel
        )
    }

    /// A wait in which something happens, and all that came of it, as words.
    static func events(
        _ transport: inout DriverTransport<FakeUblk>,
        _ kernel: FakeUblk,
        _ happens: @escaping () -> Void
    ) -> [String] {
        kernel.waits.append(happens)
        transport.wait(until: nil)
        var events: [String] = []
        while let event = transport.nextEvent() {
            switch event {
            case .fetched(let tag): events.append("fetched \(tag.rawValue)")
            case .aborted(let tag): events.append("aborted \(tag.rawValue)")
            case .operation(let tag, let transfer, let result):
                events.append("operation \(tag.rawValue).\(transfer): \(result)")
            case .notLent(let tag): events.append("not lent \(tag.rawValue)")
            case .wakeup: events.append("wakeup")
            }
        }
        return events
    }

    static let read = FileOperation(
        kind: .read,
        file: 0,
        offsetBytes: 0,
        lengthBytes: 4096
    )

    // MARK: The usual

    @Test func `every tag is offered once, with pages of its own, when the fetches are sent`()
        throws
    {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        var transport = try Self.transport(kernel, memory)
        transport.fetchAll()
        #expect(kernel.parkedTags.isEmpty)
        transport.sendFetches()
        #expect(kernel.parkedTags == [0, 1, 2, 3])
        let first = unsafe UInt64(UInt(bitPattern: memory.first))
        for tag in 0..<4 {
            #expect(kernel.buffers[UInt16(tag)] == first + UInt64(tag * memory.stride))
        }
    }

    @Test
    func
        `a request is read at the place of its queue and tag, and a commit is sent at the next wait`()
        throws
    {
        let (kernel, memory) = (try FakeUblk(queue: 3), try Self.memory())
        var transport = try Self.transport(kernel, memory)
        transport.fetchAll()
        let came = Self.events(&transport, kernel) {
            kernel.arrive(2, .write, sector: 16)
            kernel.arrive(0, .flush)
        }
        #expect(came == ["fetched 2", "fetched 0"])
        let desc = transport.desc(Tag(2))
        #expect(desc.opCode == IOOp.write.rawValue && desc.offsetBytes == 8192)
        #expect(desc.lengthBytes == 4096 && transport.desc(Tag(0)).lengthBytes == 0)
        transport.commit(Tag(2), Commit(result: 4096))
        transport.commit(Tag(0), Commit(result: -5))
        #expect(kernel.commits.isEmpty)
        #expect(Self.events(&transport, kernel) { kernel.arrive(2, .read) } == ["fetched 2"])
        #expect(kernel.commits == [.init(tag: 2, result: 4096), .init(tag: 0, result: -5)])
    }

    @Test(arguments: [24, 32, 64, 256])
    func `a descriptor is read where the device has it, in each queue`(bytes: Int) throws {
        for queue: UInt16 in [0, 2] {
            let kernel = try FakeUblk(queue: queue, descriptorBytes: bytes)
            let memory = try Self.memory()
            var transport = try Self.transport(kernel, memory)
            transport.fetchAll()
            _ = Self.events(&transport, kernel) {
                for tag: UInt16 in 0..<4 { kernel.arrive(tag, .write, sector: UInt64(8 + tag)) }
            }
            for tag: UInt16 in 0..<4 {
                #expect(transport.desc(Tag(tag)).offsetBytes == UInt64(8 + tag) * 512)
            }
        }
    }

    @Test func `each wakeup is heard, and several before a wait are one`() throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        var transport = try Self.transport(kernel, memory)
        transport.fetchAll()
        let ring = {
            var one: UInt64 = 1
            precondition(unsafe write(kernel.wakeupFD, &one, 8) == 8)
        }
        for _ in 0..<3 { #expect(Self.events(&transport, kernel, ring) == ["wakeup"]) }
        ring()
        ring()
        #expect(Self.events(&transport, kernel) {} == ["wakeup"])
        // The wait before has not run its own: a completion was there.
        kernel.waits = []
        #expect(Self.events(&transport, kernel) { kernel.arrive(1, .read) } == ["fetched 1"])
    }

    @Test func `a wait ends at its deadline, with nothing`() throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        var transport = try Self.transport(kernel, memory)
        transport.fetchAll()
        // The fake driver's own waits are of a millisecond, or a few where the machine is busy.
        let end = transport.now.advanced(byNanoseconds: 50_000_000)
        transport.wait(until: end)
        #expect(transport.now >= end && transport.nextEvent() == nil)
        #expect(kernel.parkedTags.count == 4)
    }

    /// 128 GiB, which no machine of the tests has.
    @Test func `the buffers of the deepest queue with the largest IOs take no memory unused`()
        throws
    {
        let memory = try TagBuffers(
            depth: Int(DeviceInfo.depthMax),
            maxIOBytes: Int(DeviceConfig.maxIOMax)
        )
        unsafe memory.wakeupValue.storeBytes(of: 1, as: UInt64.self)
        #expect(memory.depth * memory.stride > 128 << 30)
    }

    // MARK: The device goes

    @Test(arguments: [Errno.operationNotSupportedByDevice, .canceled])
    func `a device that goes takes the parked tags at once, and one that is served at its commit`(
        errno: Errno
    ) throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        var transport = try Self.transport(kernel, memory)
        transport.fetchAll()
        #expect(Self.events(&transport, kernel) { kernel.arrive(1, .read) } == ["fetched 1"])
        let gone = Self.events(&transport, kernel) { kernel.goAway(errno) }
        #expect(gone == ["aborted 0", "aborted 2", "aborted 3"])
        transport.commit(Tag(1), Commit(result: 4096))
        #expect(Self.events(&transport, kernel) {} == ["aborted 1"])
        #expect(kernel.commits == [.init(tag: 1, result: 4096)])
    }

    @Test func `an operation that ends after the device has gone is told with its tag`() throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        var transport = try Self.transport(kernel, memory, backingFDs: [7])
        transport.fetchAll()
        _ = Self.events(&transport, kernel) { kernel.arrive(1, .read) }
        transport.submit(Self.read, for: Tag(1), transfer: 5)
        _ = Self.events(&transport, kernel) { kernel.goAway() }
        #expect(kernel.operations.map(\.file) == [7])
        let late = Self.events(&transport, kernel) { kernel.finishOperation(512) }
        #expect(late == ["operation 1.5: 512"])
    }

    /// EINVAL, EBUSY, EPERM; and UBLK_IO_RES_NEED_GET_DATA, of a mode that nobody asked for.
    @Test(arguments: [-22, -16, -1, 1] as [Int32])
    func `an answer that only a mistake of ours brings stops the program`(result: Int32) async {
        await #expect(processExitsWith: .failure) { [result] in
            let (kernel, memory) = (try FakeUblk(), try DriverTransportTests.memory())
            var transport = try DriverTransportTests.transport(kernel, memory)
            transport.fetchAll()
            kernel.waits = [{ kernel.answer(0, result) }]
            transport.wait(until: nil)
            _ = transport.nextEvent()
        }
    }

    // MARK: The ring

    @Test(arguments: [Errno.interrupted, .resourceBusy, .resourceTemporarilyUnavailable, .noMemory])
    func `a wait that the kernel ends early goes on, and nothing is lost or sent twice`(
        errno: Errno
    ) throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        var transport = try Self.transport(kernel, memory)
        transport.fetchAll()
        kernel.interruptions = [errno, errno]
        #expect(Self.events(&transport, kernel) { kernel.arrive(3, .read) } == ["fetched 3"])
        transport.commit(Tag(3), Commit(result: 4096))
        kernel.interruptions = [errno]
        #expect(Self.events(&transport, kernel) { kernel.arrive(3, .read) } == ["fetched 3"])
        #expect(kernel.commits == [.init(tag: 3, result: 4096)])
    }

    @Test func `fetches that were not taken when they were sent are sent by the wait`() throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        var transport = try Self.transport(kernel, memory)
        transport.fetchAll()
        kernel.interruptions = [.resourceTemporarilyUnavailable]
        transport.sendFetches()
        #expect(kernel.parkedTags.isEmpty)
        #expect(Self.events(&transport, kernel) { kernel.arrive(0, .read) } == ["fetched 0"])
        #expect(kernel.parkedTags == [1, 2, 3])
    }

    @Test(arguments: [Int.max, 1, 3])
    func `more operations than the ring has entries are all carried out, once each`(
        takesAtOnce: Int
    ) throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        var transport = try Self.transport(kernel, memory, backingFDs: [7])
        transport.fetchAll()
        _ = Self.events(&transport, kernel) {
            for tag in 0..<4 { kernel.arrive(UInt16(tag), .read) }
        }
        kernel.takesAtOnce = takesAtOnce
        kernel.interruptions = [.resourceBusy, .interrupted, .resourceTemporarilyUnavailable]
        // The ring has 16 entries.
        for transfer in 0..<16 {
            for tag in 0..<4 {
                transport.submit(Self.read, for: Tag(UInt16(tag)), transfer: transfer)
            }
        }
        #expect(kernel.interruptions.isEmpty && kernel.operations.count < 64)
        var ended: [String] = []
        while ended.count < 64 {
            kernel.waits = []
            ended += Self.events(&transport, kernel) {
                while !kernel.operations.isEmpty, kernel.completions < 16 {
                    kernel.finishOperation(1)
                }
            }
        }
        #expect(Set(ended).count == 64 && ended.allSatisfy { $0.hasPrefix("operation ") })
    }

    @Test func `a kernel that does not know the best flags is served without them`() throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        kernel.refusal = (1 << 13, .invalidArgument)  // IORING_SETUP_DEFER_TASKRUN
        var transport = try Self.transport(kernel, memory)
        #expect(kernel.asked == [URING_SETUP_QUEUE_FLAGS, URING_SETUP_COOP_FLAGS])
        transport.fetchAll()
        #expect(Self.events(&transport, kernel) { kernel.arrive(1, .read) } == ["fetched 1"])
    }

    @Test(
        arguments: [(.max, .invalidArgument, 2), (1 << 13, .notPermitted, 1)]
            as [(UInt32, Errno, Int)]
    )
    func `a kernel that gives no ring is told, and asked once for what it forbids`(
        flags: UInt32,
        errno: Errno,
        times: Int
    ) throws {
        let (kernel, memory) = (try FakeUblk(), try Self.memory())
        kernel.refusal = (flags, errno)
        #expect {
            _ = try Self.transport(kernel, memory)
        } throws: { "\($0)".contains(errno.name) }
        #expect(kernel.asked.count == times && !kernel.isClosed)
    }

    @Test func `a ring is closed when its queue cannot be mapped`() throws {
        let (kernel, memory) = (try FakeUblk(queue: 0), try Self.memory())
        #expect(throws: DeviceError.self) {
            _ = try DriverTransport(
                queue: QueueID(0),
                memory: memory,
                mode: .copy,
                descriptorBytes: kernel.descriptorBytes,
                characterFD: -1,
                wakeupFD: kernel.wakeupFD,
                backingFDs: [],
                kernel: kernel
            )
        }
        #expect(kernel.isClosed)
    }
}
