import Glibc
import Synchronization
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// A server's surroundings without a kernel: a driver in memory, queues that only listen, a process beside it that
/// is a thread, and folders of its own.
final class ServerWorld {
    let driver = FakeDriver()
    let queues: FakeQueues
    let clock = FastClock()
    let processes = Processes()
    private let stateFolder = ScratchDirectory()
    private let files = ScratchDirectory()
    let cookie = DeviceServer.newCookie()

    var state: StateDirectory { StateDirectory(path: stateFolder.path) }
    var disk: String { files.file("disk.img") }
    var ledger: String { files.file("ledger.jsonl") }

    /// The device's bytes are in memory, not in ``disk``.
    var storesInMemory = false

    /// `recovery` of the script.
    var recovery = DeviceConfig.Recovery.off

    /// The script's rules.
    var rules = ""
    /// Of the state directory, as servers see it.
    var isInMemory = true
    /// `queues` of the script.
    var queueCount = 2
    /// Memory that the machine has left, bytes.
    var availableMemory: UInt64 = 1 << 40
    /// What locking memory does.
    var lockMemory: () throws(Errno) -> Void = { () throws(Errno) in }
    /// Whether the server is root's.
    var isAdministrator = true
    /// The kernel's release.
    var kernelRelease = "7.3.0"

    var script: String {
        let recovery = recovery == .off ? "" : ", recovery = \"\(recovery.rawValue)\""
        let file = storesInMemory ? "" : "file = \"\(disk)\", "
        return """
            device { size = "1M", depth = 1, max_io = "4K", \(file)queues = \(queueCount)\(recovery) }
            \(rules)
            function read(io) end
            """
    }

    init() { queues = FakeQueues(driver) }

    deinit {
        // What waits for held IO is to end.
        driver.letGo()
        processes.kill()
    }

    /// One with all that a device can leave behind: two queues, a watchdog, a file for its bytes, one for its ledger.
    ///
    /// - Parameters:
    ///   - record: of a device that is served again; nil: a new one.
    ///   - deaths: ``ServerGuard/deaths``
    ///   - openLog: nil: a file in the state directory.
    func server(
        patienceSeconds: Int = 5,
        settings: [String] = ["seed=7"],
        recovering record: DeviceRecord? = nil,
        deaths: Int? = nil,
        openLog: ((DeviceID) throws -> LogSink)? = nil
    ) throws -> DeviceServer {
        let state = state
        var request = DeviceServer.Request(
            source: ScriptSource(path: "faulty.lua", text: script),
            ledgerFile: ledger,
            cookie: cookie,
            patienceSeconds: patienceSeconds,
            state: state,
            encode: { JSON.encode($0) },
            openLog: openLog ?? {
                try LogSink(path: state.logPath($0), continues: record != nil)
            }
        )
        request.recovered = record
        request.deaths = deaths
        request.settings = settings
        request.overrides = try settings.map { try Setting(argument: $0) }
        let (driver, queues, processes) = (driver, queues, processes)
        let isInMemory = isInMemory
        return try DeviceServer(
            request,
            ServerPlatform(
                access: driver,
                clock: clock.clock,
                companion: { () throws(DeviceError) in try processes.start(driver) },
                queue: { queues.run($0) },
                lockMemory: lockMemory,
                availableMemory: { [availableMemory] in availableMemory },
                isInMemory: { _ in isInMemory },
                isAdministrator: isAdministrator,
                kernelRelease: kernelRelease
            )
        )
    }

    /// The server dies: its device, its files and its record stay as they are.
    func kill(_ server: DeviceServer, busyRecoveries: Int = 0) {
        driver.killServer(server.id, busyRecoveries: busyRecoveries)
        server.endQueues()
    }

    func log(_ id: DeviceID = DeviceID(0)) -> String { contents(of: state.logPath(id)) ?? "" }

    /// What is left of a device: empty when there is nothing.
    ///
    /// - Parameter names: in the state directory, of the test's own.
    func leftovers(except names: [String] = []) -> [String] {
        var found = driver.presentIDs().map { "device \($0)" }
        found += DirectoryListing.names(state.path).filter { !names.contains($0) }
        if queues.running > 0 { found.append("\(queues.running) queue threads") }
        if driver.hasOpenNode { found.append("an open /dev/ublkcN") }
        return found + leftFiles
    }

    /// Those that are made for the device.
    var madeFiles: [String] { [disk, ledger] }
    var leftFiles: [String] { madeFiles.filter { unsafe access($0, F_OK) == 0 } }

    /// The processes beside servers: threads, whose socket outlives them because a late answer may come.
    final class Processes: Sendable {
        private let ends = Mutex<[Int32]>([])
        /// What the last one to have something to do at the end of its server would do.
        let lastGuard = Shared<ServerGuard?>(nil)
        private let running = Atomic(0)

        /// Returns when all have ended, whose servers have.
        func waitForEnds() {
            while running.load(ordering: .acquiring) > 0 { usleep(1000) }
        }

        func start(_ driver: FakeDriver) throws(DeviceError) -> Companion {
            let (own, other) = socketPair()
            ends.withLock { $0.append(other) }
            running.add(1, ordering: .acquiringAndReleasing)
            OSThread(name: "test-outside") {
                let outside = OutsideProcess(socket: other, driver, silenceSeconds: 0.3)
                if let serverGuard = outside.run() { self.lastGuard.set(serverGuard) }
                self.running.subtract(1, ordering: .acquiringAndReleasing)
            }.detach()
            return Companion(fd: own, pid: nil)
        }

        /// They die.
        func kill() {
            for end in ends.withLock({ $0 }) { shutdown(end, Int32(SHUT_RDWR)) }
        }
    }
}

/// The machine's time, in which a pause is over in a moment.
final class FastClock: Sendable {
    private let ahead = Atomic<UInt64>(0)

    var clock: WaitClock {
        WaitClock(
            now: { WaitClock.machine.now() + self.ahead.load(ordering: .relaxed) },
            pause: {
                self.ahead.add(UInt64($0) * 1_000_000, ordering: .relaxed)
                // Others have to run.
                usleep(200)
            }
        )
    }
}

/// A value that threads share.
final class Shared<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>
    init(_ value: Value) { mutex = Mutex(value) }
    var value: Value { mutex.withLock { $0 } }
    func set(_ value: Value) { mutex.withLock { $0 = value } }
    /// A setter of `value` would let `value.append(...)` be written: that reads, and stores what another thread has
    /// changed meanwhile.
    func change(_ change: (inout Value) -> Void) { mutex.withLock { change(&$0) } }
}

/// The threads of queues without a driver and a script: each comes up, hears what it is told, and ends when it is told
/// or when the driver has taken its tags back.
final class FakeQueues: Sendable {
    private let driver: FakeDriver
    private let count = Atomic(0)
    /// How often one was drained.
    private let drained = Atomic(0)
    /// Why the last queue does not come up.
    let problem = Shared<String?>(nil)
    /// Each says that it holds an IO.
    let holds = Shared(false)
    /// Held IO stays held when the device is drained, as that of a backing that does not answer.
    let holdsOn = Shared(false)
    /// The sizes of the device that the queues were told of.
    let sizes = Shared<[UInt64]>([])
    /// An IO is served now and then.
    let isBusy = Shared(false)
    private let begunArmed = Atomic(0)

    init(_ driver: FakeDriver) { self.driver = driver }

    var running: Int { count.load(ordering: .acquiring) }
    /// How many came up with faults that were armed before.
    var beganArmed: Int { begunArmed.load(ordering: .acquiring) }
    var drains: Int { drained.load(ordering: .acquiring) }

    func run(_ context: QueueContext) {
        count.add(1, ordering: .acquiringAndReleasing)
        defer { count.subtract(1, ordering: .acquiringAndReleasing) }
        // The partition scan.
        serve(context)
        if let problem = problem.value, context.queue.rawValue == context.plan.config.queues - 1 {
            return context.ready.fulfil(problem)
        }
        if context.control.armed.load(ordering: .relaxed) {
            begunArmed.add(1, ordering: .acquiringAndReleasing)
        }
        if holds.value { context.control.counters.add(.heldNow) }
        context.ready.fulfil(nil)
        while driver.serves(context.characterFD) {
            var event = pollfd(fd: context.wakeupFD, events: Int16(POLLIN), revents: 0)
            if unsafe poll(&event, 1, 5) > 0 {
                var count: UInt64 = 0
                _ = unsafe read(context.wakeupFD, &count, 8)
            }
            if isBusy.value { serve(context) }
            if driver.hasTakenTags(context.characterFD) {
                context.control.hasLostTag.store(true, ordering: .relaxed)
            }
            for message in context.control.takeMessages() {
                switch message {
                case .quit: return
                case .resize(let size, let promise):
                    sizes.change { $0.append(size.deviceBytes) }
                    promise.fulfil(true)
                case .drain:
                    drained.add(1, ordering: .acquiringAndReleasing)
                    if !holdsOn.value { driver.letGo() }
                case .ask(_, let promise): promise.fulfil(.success(.nothing))
                default: break
                }
            }
        }
    }

    /// An IO that comes and ends.
    private func serve(_ context: QueueContext) {
        context.control.counters.add(.read)
        context.control.times.writer.add(0, nanoseconds: 1, bytes: 512)
    }
}
