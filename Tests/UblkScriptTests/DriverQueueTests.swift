import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import UblkScript

/// A whole queue on a driver that does what is rare.
@Suite struct DriverQueueTests {
    /// The queue of a script with a file of 16 MiB, on `kernel`; runs to its end.
    private func run(
        _ script: String,
        _ kernel: FakeUblk,
        control: QueueControl,
        sharing buffer: SharedBuffer? = nil
    ) throws {
        let settings = ["size": "16M", "file": "/nowhere", "depth": "4", "seed": "1"]
        let plan = try LoadedScript.plan(
            ScriptSource(path: "test.lua", text: script),
            overrides: settings.map {
                Setting(key: $0.key, value: .string($0.value), origin: "test")
            }
        )
        let shared = SharedObjects(queues: 2)
        let counters = RuleCounters(count: plan.ruleCount)
        let loaded = try plan.load(
            queue: kernel.queue,
            shared: shared,
            counters: counters,
            ledger: control.ledger,
            logFD: -1
        )
        let memory = try TagBuffers(
            depth: 4,
            maxIOBytes: Int(plan.config.maxIOBytes),
            isBatched: kernel.mode.isBatched
        )
        var transport = try DriverTransport(
            queue: kernel.queue,
            memory: memory,
            mode: kernel.mode,
            shared: buffer,
            descriptorBytes: kernel.descriptorBytes,
            characterFD: kernel.characterFD,
            wakeupFD: kernel.wakeupFD,
            backingFDs: [7],
            kernel: kernel
        )
        transport.fetchAll()
        transport.sendFetches()
        control.armed.store(true, ordering: .relaxed)
        let view = FileStore.View(
            writesThrough: true,
            file: 0,
            sizeBytes: 16 << 20,
            dataBytes: UInt64(plan.config.maxIOBytes)
        )
        var queue = try Queue(
            transport: transport,
            loaded: loaded,
            configuration: QueueConfiguration(
                queue: kernel.queue,
                depth: 4,
                sizeBytes: 16 << 20,
                maxIOBytes: Int(plan.config.maxIOBytes),
                stores: [.file(view)],
                config: plan.config,
                rules: plan.rules,
                seed: plan.seed
            ),
            shared: shared,
            control: control,
            report: SimulationLog(wakeups: [], controls: [control])
        )
        queue.run()
    }

    private func control(_ kernel: FakeUblk) -> QueueControl {
        let fd = kernel.wakeupFD
        return QueueControl {
            var one: UInt64 = 1
            precondition(unsafe write(fd, &one, 8) == 8)
        }
    }

    @Test(arguments: [DataMode.copy, .batch])
    func `a queue whose device goes ends when what it has begun is over`(mode: DataMode) throws {
        let kernel = try FakeUblk(mode: mode)
        kernel.waits = [
            { kernel.arrive(0, .read) },
            { kernel.goAway() },
            // Short, as reads of a file may be: the rest is asked for after the device has gone.
            { kernel.finishOperation(1024) },
            { kernel.finishOperation(3072) },
        ]
        try run("", kernel, control: control(kernel))
        #expect(kernel.waits.isEmpty && kernel.operations.isEmpty)
        #expect(kernel.commits == [.init(tag: 0, result: 4096)])
    }

    @Test(arguments: [DataMode.copy, .batch])
    func `a delay that ends after the device has gone is committed all the same`(
        mode: DataMode
    ) throws {
        let kernel = try FakeUblk(mode: mode)
        kernel.waits = [{ kernel.arrive(2, .read) }, { kernel.goAway() }]
        try run(
            "rule { op = \"read\", delay = \"5ms\", error = \"ENODATA\" }",
            kernel,
            control: control(kernel)
        )
        #expect(kernel.commits == [.init(tag: 2, result: -61)])
    }

    @Test func `a queue that was quiesced says so, and ends when it is told to`() throws {
        let kernel = try FakeUblk()
        let control = control(kernel)
        var said: [Bool] = []
        func note() { said.append(control.hasLostTag.load(ordering: .relaxed)) }
        kernel.waits = [
            { kernel.arrive(2, .read) },
            {
                note()
                kernel.goAway(quiesced: true)
                control.send(.drain)
            },
            {
                note()
                control.send(.quit)
            },
        ]
        try run("rule { op = \"read\", hang = true }", kernel, control: control)
        #expect(said == [false, true])
        #expect(kernel.commits == [.init(tag: 2, result: -5)])
    }

    @Test(arguments: [DataMode.copy, .batch])
    func `a hang that the device does not outlive is let go by a drain`(mode: DataMode) throws {
        let kernel = try FakeUblk(mode: mode)
        let control = control(kernel)
        kernel.waits = [
            { kernel.arrive(2, .read) }, { kernel.goAway() }, { control.send(.drain) },
        ]
        try run("rule { op = \"read\", hang = true }", kernel, control: control)
        #expect(kernel.commits == [.init(tag: 2, result: -5)])
    }

    @Test func `with user copy a write is pulled before its file gets it, a read pushed after it`()
        throws
    {
        let kernel = try FakeUblk(mode: .userCopy)
        var atFile: [String] = []
        kernel.waits = [
            {
                kernel.arrive(0, .write)
                kernel.arrive(1, .read)
            },
            {
                atFile = kernel.copies
                kernel.finishOperation(4096)
                kernel.finishOperation(4096)
            },
            { kernel.goAway() },
        ]
        try run("", kernel, control: control(kernel))
        #expect(atFile == ["pull 0 0+4096"])
        #expect(kernel.copies == ["pull 0 0+4096", "push 1 0+4096"])
        #expect(kernel.commits.map(\.result) == [4096, 4096])
    }

    @Test func `with auto buf a file gets the pages of requests, but of those that are not lent`()
        throws
    {
        let kernel = try FakeUblk(mode: .autoBuf)
        kernel.waits = [
            {
                kernel.arrive(0, .write)
                kernel.arrive(1, .read)
                kernel.arrive(2, .write, flags: .isNotRegistered)
                kernel.arrive(3, .read, flags: .isNotRegistered)
            },
            { for bytes in [4096, 1024, 4096, 4096] as [Int32] { kernel.finishOperation(bytes) } },
            // The rest of a short read.
            { kernel.finishOperation(3072) },
            { kernel.goAway() },
        ]
        try run("", kernel, control: control(kernel))
        #expect(kernel.onPages == ["write 0 0+4096", "read 1 0+4096", "read 1 1024+3072"])
        #expect(kernel.copies == ["pull 2 0+4096", "push 3 0+4096"])
        #expect(kernel.commits.count == 4 && kernel.commits.allSatisfy { $0.result == 4096 })
    }

    @Test func `with zero copy pages are lent to files, and copied when the driver refuses`() throws
    {
        let kernel = try FakeUblk(mode: .zeroCopy)
        kernel.loanRefusals = [.noMemory, .noMemory]
        kernel.waits = [
            {
                for tag in [0, 1] as [UInt16] { kernel.arrive(tag, .write) }
                for tag in [2, 3] as [UInt16] { kernel.arrive(tag, .read) }
            },
            // The first two begin anew.
            {
                #expect(kernel.copies == ["pull 0 0+4096", "pull 1 0+4096"])
                #expect(kernel.lent == [2, 3])
                #expect(kernel.onPages == ["read 2 0+4096", "read 3 0+4096"])
                for _ in 0..<4 { kernel.finishOperation(4096) }
            },
            {
                kernel.loanRefusals = [.noMemory]
                kernel.arrive(1, .read)
                kernel.arrive(0, .write)
            },
            { for _ in 0..<2 { kernel.finishOperation(4096) } },
            { kernel.goAway() },
        ]
        try run("", kernel, control: control(kernel))
        #expect(kernel.copies.dropFirst(2) == ["push 1 0+4096"])
        #expect(kernel.onPages.dropFirst(2) == ["write 0 0+4096"])
        #expect(kernel.lent.isEmpty && kernel.waits.isEmpty)
        #expect(kernel.commits.count == 6 && kernel.commits.allSatisfy { $0.result == 4096 })
    }

    @Test func `a file gets the memory that is shared, and copies of all else`() throws {
        let kernel = try FakeUblk(mode: .sharedMemory)
        let control = control(kernel)
        let buffer = SharedBuffer(memory: try SharedMemory(byteCount: 64 << 10), number: 2)
        let inIt = { (offset: UInt64) in 2 << 32 | offset }
        kernel.waits = [
            {
                kernel.arrive(0, .write, flags: .isShared, address: inIt(8192))
                kernel.arrive(1, .read, flags: .isShared, address: inIt(61440))
                // Not marked; past its end; in memory that another program has registered.
                kernel.arrive(2, .write, address: inIt(0))
                kernel.arrive(3, .read, flags: .isShared, address: inIt(61952))
            },
            {
                for bytes in [4096, 1024, 4096, 4096] as [Int32] { kernel.finishOperation(bytes) }
            },
            // The rest of a short read.
            { kernel.finishOperation(3072) },
            { kernel.arrive(0, .write, flags: .isShared, address: 3 << 32) },
            { kernel.finishOperation(4096) },
            { kernel.goAway() },
        ]
        try run("", kernel, control: control, sharing: buffer)
        #expect(kernel.copies == ["pull 2 0+4096", "push 3 0+4096", "pull 0 0+4096"])
        let first = unsafe UInt64(UInt(bitPattern: buffer.memory.first))
        let places = kernel.places.map { $0 &- first }
        #expect(places.prefix(2) == [8192, 61440] && places[4] == 61440 + 1024)
        #expect(places[2] > 64 << 10 && places[3] > 64 << 10 && places[5] > 64 << 10)
        #expect(kernel.commits.count == 5 && kernel.commits.allSatisfy { $0.result == 4096 })
        #expect(control.counters[.sharedIOs] == 2 && kernel.onPages.isEmpty)
    }

    @Test func `shared data that is to be changed is copied, not changed where it is`()
        throws
    {
        let kernel = try FakeUblk(mode: .sharedMemory)
        let control = control(kernel)
        let buffer = SharedBuffer(memory: try SharedMemory(byteCount: 64 << 10), number: 0)
        kernel.waits = [
            {
                kernel.arrive(0, .write, flags: .isShared)
                kernel.arrive(1, .read, flags: .isShared, address: 4096)
            },
            { for _ in 0..<2 { kernel.finishOperation(4096) } },
            { kernel.goAway() },
        ]
        let rule = "rule { op = { \"read\", \"write\" }, verdict = corrupt(\"flip\") }"
        try run(rule, kernel, control: control, sharing: buffer)
        #expect(kernel.copies == ["pull 0 0+4096", "push 1 0+4096"])
        #expect(kernel.commits.map(\.result) == [4096, 4096])
        #expect(control.counters[.sharedIOs] == 0 && control.counters[.corrupted] == 2)
    }

    @Test func `an IO whose pages are refused, and whose data is too, ends with EIO`() throws {
        let kernel = try FakeUblk(mode: .zeroCopy)
        let control = control(kernel)
        kernel.loanRefusals = [.noMemory]
        kernel.copyResults = [-14]
        kernel.waits = [{ kernel.arrive(0, .write) }, { kernel.goAway() }]
        try run("", kernel, control: control)
        #expect(kernel.commits == [.init(tag: 0, result: -5)] && kernel.lent.isEmpty)
        #expect(control.counters[.copyErrors] == 1 && control.counters[.backingErrors] == 0)
    }

    @Test func `an IO whose data the driver does not give or take ends with EIO`() throws {
        let kernel = try FakeUblk(mode: .userCopy)
        let control = control(kernel)
        kernel.copyResults = [-14, -14]
        kernel.waits = [
            {
                kernel.arrive(0, .write)
                kernel.arrive(1, .read)
            },
            { kernel.finishOperation(4096) },
            { kernel.goAway() },
        ]
        try run("", kernel, control: control)
        #expect(kernel.commits == [.init(tag: 0, result: -5), .init(tag: 1, result: -5)])
        #expect(control.counters[.copyErrors] == 2)
    }

    @Test func `a queue that is to quit waits for the file that writes to its buffers`() throws {
        let kernel = try FakeUblk()
        let control = control(kernel)
        var isOver = false
        kernel.waits = [
            { kernel.arrive(1, .read) },
            { control.send(.quit) },
            {
                isOver = true
                kernel.finishOperation(4096)
            },
        ]
        try run("", kernel, control: control)
        #expect(isOver && kernel.parkedTags == [0, 2, 3])
    }
}
