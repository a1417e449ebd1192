import Glibc
import Logging
import Synchronization
import SystemPackage

/// A running device: brings it up, serves admin requests, takes it away.
///
/// The main thread; queues have their own.
///
///     bringUp:  plan, backing ─► ADD ─► SET_PARAMS ─► open ublkc ─► queue threads ─► START ─► arm ─► ready
///     takeDown: disarm, drain ─► STOP (queues still serve) ─► threads end ─► close ─► DEL
///
/// Whatever fails on the way up undoes what was done: the device is deleted, a file that was made
/// is removed.
final class DeviceServer {
    /// What `add` asked for.
    struct Request {
        var source: ScriptSource
        var overrides: [Setting] = []
        /// The overrides as typed, for the record.
        var settings: [String] = []
        var id: DeviceID?
        var ledgerFile: String?
        var cookie = DeviceServer.newCookie()
        /// How long a signal waits for a stop that makes no progress.
        var patienceSeconds = OutsideControl.patienceSeconds
        var state = StateDirectory.standard
        /// Those made for the device: removed, should it not come up.
        var newFiles = NewFiles()
        /// Encodes the record; JSON lives above this folder.
        var encode: (any Encodable) -> [UInt8]
    }

    var request: Request
    /// What the queues run.
    var plan: LoadedScript.Plan
    /// All rules that the ledger tells of, those of earlier scripts too.
    var ledgerRules: [RuleLabel]
    /// The scripts that they are of; the first one's handlers have no label among them.
    var ledgerScripts: [LedgerScript]
    var sizeBytes: UInt64 { backings.sizeBytes }
    let driver: DriverQueries
    /// Gives the commands that wait in the kernel, in a process of its own.
    let outside: OutsideControl
    let lines: LinePipe
    let ledgerFile: LedgerFile?
    private let backings: DeviceStores<FileStore>
    private(set) var id = DeviceID(0)
    private(set) var info = DeviceInfo(id: nil, queues: 0, depth: 0, maxIOBytes: 0, features: [])
    private var characterFD: Int32 = -1
    private(set) var seats: [QueueSeat] = []
    private var threads = ThreadList()
    private(set) var callers: AdminCallers?
    /// What the state directory says of the device; nil until it does.
    private(set) var record: DeviceRecord?
    private var recordBytes: [UInt8] = []
    var ruleCounters: RuleCounters
    let watchdog: Watchdog
    /// A thread that loads a script for a reload will never be done.
    var isLoaderStuck = false
    private var watches = false
    private let sink = SinkBox()
    /// Something that `list` tells of the device: why its faults are off.
    var statusRemark = ""
    /// What failed unasked in the whole life of the queues; nil: nothing, or they still run.
    private(set) var failureSummary: String?
    /// An eventfd that each queue thread adds to when it ends.
    let endedFD: Int32
    /// Silent until the device has a number, and with it a log.
    private(set) var logger = Logger(label: "ublk-script") { _ in SwiftLogNoOpLogHandler() }

    /// Checks everything that can be checked before a device exists.
    init(_ request: Request) throws {
        self.request = request
        // Started through /proc/self/exe the process would be called "exe"; ServerProcess looks for
        // this name.
        SystemCall.setThreadName("ublk-script")
        plan = try LoadedScript.plan(request.source, overrides: request.overrides)
        endedFD = try Self.makeEventFD()
        driver = try DriverQueries()
        outside = try OutsideControl()
        lines = try LinePipe()
        let newFiles = request.newFiles
        do {
            ledgerFile = try request.ledgerFile.map { path throws(DeviceError) in
                try LedgerFile(path: path, newFiles: newFiles)
            }
            backings = try DeviceStores(plan.config, newFiles: newFiles)
        } catch {
            newFiles.removeAll()
            throw error
        }
        ruleCounters = RuleCounters(count: plan.ruleCount)
        ledgerRules = plan.rules
        ledgerScripts = [
            LedgerScript(name: request.source.shortName, rules: plan.rules, firstRule: 0)
        ]
        let name = request.source.name
        let sink = sink
        watchdog = Watchdog(budgetNanoseconds: plan.config.budgetNanoseconds) {
            sink.write(
                "\(name): a handler is stuck in a C function for 5 s and cannot be interrupted; "
                    + "the server ends, IOs get EIO. Delete the device and mend the script."
            )
            _exit(1)
        }
    }

    /// Makes the device.
    ///
    /// On any failure nothing of it is left.
    ///
    /// - Parameter sink: opens the log of a device.
    func bringUp(sink open: (DeviceID) throws -> LogSink) throws -> DeviceRecord {
        do {
            let features = try driver.features()
            guard features.contains(.ioctlEncode) else {
                throw DeviceError.unsupported(
                    "this kernel's ublk driver is too old (no ioctl-encoded commands): 6.12 or later is needed"
                )
            }
            try add(features)
            try request.state.create()
            let sink = try open(id)
            self.sink.set(sink)
            logger = Logger(label: "ublk-script") { _ in LineLogHandler(sink: sink) }
            noteGrantedQueues()
            noteIOFlusher()
            try NewDevice.setParams(plan.config.params(sizeBytes: sizeBytes), of: id)
            let record = firstRecord()
            try keep(record)
            callers = try AdminCallers(
                path: request.state.socketPath(id),
                requestBytesMax: AdminSocket.reloadBytesMax
            )
            characterFD = try NewDevice.open(id)
            try startQueues()
            try start()
            try waitForNodes()
            info = try driver.info(of: id)
            SystemCall.liftLimits()
            logger.info(
                "device \(id) is live: \(Quantity.text(bytes: sizeBytes)), script \(record.script), seed \(plan.seed)"
            )
            return record
        } catch {
            undo()
            throw error
        }
    }

    private func add(_ offered: Features) throws(DeviceError) {
        let config = plan.config
        // The scan is ours to make, after START_DEV and before faults are armed: then it neither
        // hangs nor counts.
        let wanted = offered.intersection([.noAutoPartitionScan])
        var asked = DeviceInfo(
            id: request.id,
            queues: config.queues,
            depth: config.depth,
            maxIOBytes: config.maxIOBytes,
            features: wanted
        )
        asked.cookie = cookie
        do throws(DeviceError) { info = try NewDevice.add(asked) } catch {
            throw explained(error)
        }
        guard let granted = info.id else { throw .unsupported("ADD_DEV gave no device number") }
        id = granted
        isAdded = true
        guard info.features.isSuperset(of: wanted), info.depth == config.depth,
            info.maxIOBytes == config.maxIOBytes
        else {
            throw .unsupported(
                "device \(id): the driver granted other features or limits than it was asked for (ADD_DEV)"
            )
        }
    }

    private func noteGrantedQueues() {
        guard info.queues != plan.config.queues else { return }
        logger.warning(
            "\(plan.config.queues) queues asked for, \(info.queues) granted: one per CPU is the driver's limit"
        )
    }

    /// All threads are what the main thread is, which was it before there were any.
    private func noteIOFlusher() {
        guard !SystemCall.isIOFlusher else { return }
        logger.warning(
            "PR_SET_IO_FLUSHER was refused: under memory pressure the device may wait for itself"
        )
    }
    private var isAdded = false
    private var cookie: UInt64 { request.cookie }
    /// Fits a number of JSON.
    static func newCookie() -> UInt64 { UInt64.random(in: 1..<(1 << 53)) }
    /// What has to be done should this process have to end at once.
    var aftermath: Aftermath { Aftermath(cookie: cookie) }
    /// Takes away what was made for a device that did not come up.
    func removeNewFiles() { request.newFiles.removeAll() }

    private func firstRecord() -> DeviceRecord {
        DeviceRecord(
            id: id.rawValue,
            serverPID: getpid(),
            cookie: cookie,
            script: request.source.recordedPath,
            origin: request.source.origin,
            backing: plan.config.backing.rawValue,
            file: backings.ownFile.map { AbsolutePath.of($0.path) },
            sizeBytes: sizeBytes,
            logicalBlockBytes: plan.config.logicalBlockBytes,
            seed: plan.seed,
            settings: request.settings,
            directory: request.source.directory
        )
    }

    func keep(_ record: DeviceRecord) throws(DeviceError) {
        self.record = record
        let bytes = request.encode(record)
        try request.state.writeRecord(bytes, of: id)
        recordBytes = bytes
    }

    private func startQueues() throws {
        let shared = SharedObjects(queues: Int(info.queues))
        for index in 0..<info.queues {
            let queue = QueueID(index)
            let wakeup = try Self.makeEventFD()
            let seat = QueueSeat(
                queue: queue,
                plan: plan,
                sizeBytes: sizeBytes,
                backings: backings,
                characterFD: characterFD,
                wakeupFD: wakeup,
                memory: try TagBuffers(
                    depth: Int(plan.config.depth),
                    maxIOBytes: Int(plan.config.maxIOBytes)
                ),
                affinity: try driver.affinity(of: queue, device: id),
                shared: shared,
                ruleCounters: ruleCounters,
                control: QueueControl(
                    ledger: Ledger(queue: queue, capacity: plan.config.ledgerRecords),
                    watchdog: watchdog,
                    ring: {
                        var one: UInt64 = 1
                        _ = unsafe write(wakeup, &one, 8)
                    }
                ),
                lines: lines,
                ready: Promise()
            )
            seats.append(seat)
            let endedFD = endedFD
            let problem = threads.start("ublk-q\(index)") {
                QueueThread.run(seat)
                var one: UInt64 = 1
                _ = unsafe write(endedFD, &one, 8)
            }
            if let problem { throw Self.noThread("queue \(index)", problem) }
        }
        try startLedgerFile()
        if plan.needsWatchdog { try startWatchdog() }
        // START_DEV would wait for ever for a queue that did not come up.
        for seat in seats {
            guard let outcome = seat.ready.wait(seconds: 20) else {
                throw DeviceError.unsupported(
                    "queue \(seat.queue.rawValue) did not come up within 20 s"
                )
            }
            if let problem = outcome { throw DeviceError.unsupported(problem) }
        }
    }

    /// The first time only.
    func startWatchdog() throws(DeviceError) {
        guard !watches else { return }
        let watchdog = watchdog
        if let problem = threads.start("ublk-watchdog", { watchdog.run() }) {
            throw Self.noThread("the watchdog", problem)
        }
        watches = true
    }

    /// START_DEV and the partition scan, then faults are armed.
    ///
    /// The scan's reads must be over by then: a fault could hang them, and they would count.
    private func start() throws(DeviceError) {
        let driverScans = !info.features.contains(.noAutoPartitionScan)
        let scans = !driverScans && plan.config.scansPartitions
        let remark = try outside.start(id, scans: scans, progress: { servedIOs })
        if !remark.isEmpty { logger.info("\(remark)") }
        if driverScans { DriverScan.waitForEnd(of: id, served: { servedIOs }) }
        ruleCounters.startClock(at: Instant(nanoseconds: SystemCall.monotonicNanoseconds))
        ruleCounters.lookForTriggers(plan.rules)
        for seat in seats { seat.control.arm() }
    }

    private static func makeEventFD() throws(DeviceError) -> Int32 {
        do { return try SystemCall.makeEventFD() } catch {
            throw .system(call: "eventfd", path: "", error)
        }
    }

    // MARK: The way down

    /// Stops the device cleanly; with `deletes`, its number is given back and its files are
    /// removed.
    ///
    /// - Throws: when nothing moves for `patienceSeconds`. The device runs on then, with its faults off: the
    ///   STOP is still under way.
    func takeDown(deletes: Bool, patienceSeconds: Int) throws(DeviceError) {
        drain("it is being stopped")
        do throws(DeviceError) {
            try outside.stop(id, seconds: patienceSeconds, progress: { servedIOs })
        } catch {
            statusRemark = "a stop did not end within \(patienceSeconds) s without progress"
            throw .unsupported("\(error)\nUntil it ends device \(id) runs on with its faults off.")
        }
        endThreads()
        closeFiles()
        guard deletes else { return }
        // Before DEL: afterwards the number, and with it these names, may be another device's.
        request.state.remove(id)
        do throws(DeviceError) { try outside.delete(id) } catch {
            // Another program was quicker.
            if error.errno == .operationNotSupportedByDevice { return }
            try? request.state.writeRecord(recordBytes, of: id)
            throw error
        }
    }

    private var servedIOs: UInt64 { seats.reduce(0) { $0 + $1.control.counters.total } }

    /// Lets go of everything and asks the script no more, so that STOP_DEV cannot wait for a held
    /// IO.
    ///
    /// - Parameter why: what `list` tells of it.
    func drain(_ why: String) {
        statusRemark = why
        for seat in seats {
            seat.control.armed.store(false, ordering: .relaxed)
            seat.control.send(.drain)
        }
    }

    private func undo() {
        endThreads()
        closeFiles()
        removeNewFiles()
        guard isAdded else { return }
        // Before DEL: afterwards the number, and with it these names, may be another device's.
        request.state.remove(id)
        try? outside.delete(id)
        _ = driver.waitUntilGone(id)
    }

    private func endThreads() {
        for seat in seats { seat.control.send(.quit) }
        watchdog.stop()
        threads.joinAll()
        finishLedgerFile()
        guard failureSummary == nil, let summary = Self.summary(status, of: id) else { return }
        failureSummary = summary
        logger.warning("\(summary)")
    }

    private func closeFiles() {
        for seat in seats { close(seat.wakeupFD) }
        if characterFD >= 0 { close(characterFD) }
        characterFD = -1
        seats = []
    }

    /// The device was stopped from outside: ends our side of it.
    ///
    /// - Returns: true when the device is deleted too; then its files are removed.
    func leave() -> Bool {
        endThreads()
        closeFiles()
        // A DEL that somebody else began ends soon after we have let go.
        guard driver.waitUntilGone(id) else { return false }
        // The number may be another device's by now.
        if request.state.readRecord(id) == recordBytes { request.state.remove(id) }
        return true
    }
}
