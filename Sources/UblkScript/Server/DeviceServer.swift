import Glibc
import Logging
import Synchronization
import SystemPackage

/// A running device: its plan, stores, queues, callers and log.
///
/// How it comes and goes is its ``Lifecycle``'s, for which it takes the steps that are not the driver's. The
/// main thread; queues have their own.
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
        /// Where the log of a device goes.
        var openLog: (DeviceID) throws -> LogSink
    }

    var request: Request
    /// What the queues run.
    var plan: LoadedScript.Plan
    /// All rules that the ledger tells of, those of earlier scripts too.
    var ledgerRules: [RuleLabel]
    /// The scripts that they are of; the first one's handlers have no label among them.
    var ledgerScripts: [LedgerScript]
    var sizeBytes: UInt64 { backings.sizeBytes }
    let lifecycle: Lifecycle
    private let platform: ServerPlatform
    var clock: WaitClock { platform.clock }
    var outside: OutsideControl { lifecycle.outside }
    let lines: LinePipe
    let ledgerFile: LedgerFile?
    private let backings: DeviceStores<FileStore>
    var id: DeviceID { lifecycle.id }
    var info: DeviceInfo { lifecycle.info }
    private(set) var seats: [QueueSeat] = []
    private var threads = ThreadList()
    private(set) var callers: AdminCallers?
    /// What the state directory says of the device; nil until it does.
    private(set) var record: DeviceRecord?
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
    init(_ request: Request, _ platform: ServerPlatform = ServerPlatform()) throws {
        self.request = request
        self.platform = platform
        // Started through /proc/self/exe the process would be called "exe"; ServerProcess looks for
        // this name.
        SystemCall.setThreadName("ublk-script")
        plan = try LoadedScript.plan(request.source, overrides: request.overrides)
        endedFD = try Self.makeEventFD()
        lifecycle = try Lifecycle(platform, state: request.state)
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
    func bringUp() throws -> DeviceRecord {
        try lifecycle.bringUp(self)
        guard let record else { preconditionFailure("a device that is up has a record") }
        SystemCall.liftLimits()
        logger.info(
            "device \(id) is live: \(Quantity.text(bytes: sizeBytes)), script \(record.script), seed \(plan.seed)"
        )
        return record
    }

    /// Fits a number of JSON.
    static func newCookie() -> UInt64 { UInt64.random(in: 1..<(1 << 53)) }
    /// What has to be done should this process have to end at once.
    var aftermath: Aftermath { Aftermath(cookie: request.cookie) }
    /// Takes away what was made for a device that did not come up.
    func removeNewFiles() { request.newFiles.removeAll() }

    func keep(_ record: DeviceRecord) throws(DeviceError) {
        self.record = record
        try lifecycle.keep(record: request.encode(record))
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

    static func noThread(_ whose: String, _ errno: Errno) -> DeviceError {
        .unsupported(
            """
            \(whose) cannot have a thread (\(errno.name)): memory or the number of processes is limited. \
            See: ulimit -v, ulimit -u
            """
        )
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
            try lifecycle.stop(patienceSeconds: patienceSeconds, self)
        } catch {
            statusRemark = "a stop did not end within \(patienceSeconds) s without progress"
            throw .unsupported("\(error)\nUntil it ends device \(id) runs on with its faults off.")
        }
        if deletes { try lifecycle.delete(self) }
    }

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

    /// The device was stopped from outside: ends our side of it.
    ///
    /// - Returns: true when the device is deleted too; then its files are removed.
    func leave() -> Bool { lifecycle.leave(self) }
}

// MARK: The steps of its life

extension DeviceServer: LifecycleHost {
    func wanted(of offered: Features) -> DeviceInfo {
        var wanted = DeviceInfo(
            id: request.id,
            queues: plan.config.queues,
            depth: plan.config.depth,
            maxIOBytes: plan.config.maxIOBytes,
            // The scan is ours to make, after START_DEV and before faults are armed: then it neither
            // hangs nor counts.
            features: offered.intersection([.noAutoPartitionScan])
        )
        wanted.cookie = request.cookie
        return wanted
    }

    var params: DeviceParams { plan.config.params(sizeBytes: sizeBytes) }
    var scansPartitions: Bool { plan.config.scansPartitions }
    var servedIOs: UInt64 { seats.reduce(0) { $0 + $1.control.counters.total } }

    func openLog(of id: DeviceID) throws {
        let sink = try request.openLog(id)
        self.sink.set(sink)
        logger = Logger(label: "ublk-script") { _ in LineLogHandler(sink: sink) }
        if info.queues != plan.config.queues {
            logger.warning(
                "\(plan.config.queues) queues asked for, \(info.queues) granted: one per CPU is the driver's limit"
            )
        }
        // All threads are what the main thread is, which was it before there were any.
        guard !SystemCall.isIOFlusher else { return }
        logger.warning(
            "PR_SET_IO_FLUSHER was refused: under memory pressure the device may wait for itself"
        )
    }

    func note(_ remark: String) { logger.info("\(remark)") }

    func makeRecord() -> [UInt8] {
        let record = DeviceRecord(
            id: id.rawValue,
            serverPID: getpid(),
            cookie: request.cookie,
            script: request.source.recordedPath,
            origin: request.source.origin,
            backing: plan.config.backing.rawValue,
            file: backings.ownFile.map { AbsolutePath.of($0.path) },
            sizeBytes: sizeBytes,
            logicalBlockBytes: plan.config.logicalBlockBytes,
            seed: plan.seed,
            settings: request.settings,
            directory: request.source.directory,
            driver: DeviceRecord.Driver(info, params),
            ledgerFile: request.ledgerFile.map { AbsolutePath.of($0) },
            patienceSeconds: request.patienceSeconds
        )
        self.record = record
        return request.encode(record)
    }

    func listen(at path: String) throws(DeviceError) {
        callers = try AdminCallers(path: path, requestBytesMax: AdminSocket.reloadBytesMax)
    }

    func startQueues(_ characterFD: Int32) throws {
        do {
            try startThreads(characterFD)
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
        } catch {
            endQueues()
            throw error
        }
    }

    private func startThreads(_ characterFD: Int32) throws {
        let shared = SharedObjects(queues: Int(info.queues))
        for index in 0..<info.queues {
            let seat = try seat(QueueID(index), characterFD, shared)
            seats.append(seat)
            let endedFD = endedFD
            let run = platform.queue
            let problem = threads.start("ublk-q\(index)") {
                run(seat)
                var one: UInt64 = 1
                _ = unsafe write(endedFD, &one, 8)
            }
            if let problem { throw Self.noThread("queue \(index)", problem) }
        }
    }

    private func seat(
        _ queue: QueueID,
        _ characterFD: Int32,
        _ shared: SharedObjects
    ) throws -> QueueSeat {
        let memory = try TagBuffers(
            depth: Int(plan.config.depth),
            maxIOBytes: Int(plan.config.maxIOBytes)
        )
        let affinity = try lifecycle.driver.affinity(of: queue, device: id)
        let wakeup = try Self.makeEventFD()
        return QueueSeat(
            queue: queue,
            plan: plan,
            sizeBytes: sizeBytes,
            backings: backings,
            characterFD: characterFD,
            wakeupFD: wakeup,
            memory: memory,
            affinity: affinity,
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
    }

    func armFaults() {
        ruleCounters.startClock(at: Instant(nanoseconds: clock.now()))
        ruleCounters.lookForTriggers(plan.rules)
        for seat in seats { seat.control.arm() }
    }

    func endQueues() {
        for seat in seats { seat.control.send(.quit) }
        watchdog.stop()
        threads.joinAll()
        finishLedgerFile()
        if failureSummary == nil, let summary = Self.summary(status, of: id) {
            failureSummary = summary
            logger.warning("\(summary)")
        }
        for seat in seats { close(seat.wakeupFD) }
        seats = []
    }

    func discardNewFiles() { removeNewFiles() }
}
