import Glibc
import Logging
import SystemPackage

/// The server of one device: owns its plan, stores, queues, control socket and log.
///
/// Its ``Lifecycle`` brings the device up and takes it down; as ``LifecycleHost`` this class does the steps that do not
/// involve the driver. Main thread; each queue has a thread of its own.
final class DeviceServer {
    /// What to serve, as asked for by `add`.
    struct Request {
        var source: ScriptSource
        var overrides: [Setting] = []
        /// The overrides as typed, for the record.
        var settings: [String] = []
        var id: DeviceID?
        var ledgerFile: String?
        /// The record of a device whose server died, to be served again; nil: a new device is made.
        var recovered: DeviceRecord?
        /// ``ServerGuard/deaths``, when another server is to be started when this one dies; nil: none is.
        var deaths: Int?
        var cookie = DeviceServer.newCookie()
        /// After a stop signal: how long to wait while the stop makes no progress, seconds.
        var patienceSeconds = OutsideControl.patienceSeconds
        var state = StateDirectory.standard
        /// Files made for the device, removed when it does not come up.
        var newFiles = NewFiles()
        /// Encodes as JSON, for which this folder has no code (that is in CLI/).
        var encode: (any Encodable) -> [UInt8]
        /// Opens the log of the device.
        var openLog: (DeviceID) throws -> LogSink
    }

    var request: Request
    /// The script that the queues run, and its configuration.
    var plan: LoadedScript.Plan
    /// The rules of all scripts that have run, indexed by the rule numbers of the ledger.
    var ledgerRules: [RuleLabel]
    /// All scripts that have run; the first one has no label for its handlers in ``ledgerRules``.
    var ledgerScripts: [LedgerScript]
    var sizeBytes: UInt64 { backings.sizeBytes }
    /// The size up to which the device can grow.
    let reachBytes: UInt64
    let lifecycle: Lifecycle
    let data: DataChoice
    /// nil, too, in the next server of a device: the driver knows the memory of the first one, which is lost.
    let sharedMemory: SharedMemory?
    let platform: ServerPlatform
    var clock: WaitClock { platform.clock }
    var outside: OutsideControl { lifecycle.outside }
    let lines: LinePipe
    let ledgerFile: LedgerFile?
    /// nil: nobody follows the requests.
    var runningTrace: RunningTrace?
    /// The stores, which the queues have views of.
    var backings: DeviceStores<FileStore>
    var id: DeviceID { lifecycle.id }
    var info: DeviceInfo { lifecycle.info }
    private(set) var contexts: [QueueContext] = []
    private var threads = ThreadList()
    private(set) var callers: AdminCallers?
    /// The device's record in the state directory; nil before it is written.
    private(set) var record: DeviceRecord?
    var ruleCounters: RuleCounters
    var live = LiveObjects()
    let watchdog: Watchdog
    /// The thread that loads a script for a reload is stuck for ever.
    var isLoaderStuck = false
    /// The watchdog's thread has been started.
    private var watches = false
    /// Faults have been armed; queues that are started afterwards begin so.
    var isArmed = false
    private let sink = SinkBox()
    /// Why faults are off, for `list`; "" while they are on.
    var statusRemark = ""
    /// Failures that no rule or handler decided, counted when the queues ended; nil: none, or the queues still run.
    private(set) var failureSummary: String?
    /// An eventfd that each queue thread adds to when it ends.
    let endedFD: Int32
    /// Writes to the device's log; discards everything until the device has a number and its log is open.
    private(set) var logger = Logger(label: "ublk-script") { _ in SwiftLogNoOpLogHandler() }

    /// Checks everything that can be checked before a device exists.
    init(_ request: Request, _ platform: ServerPlatform = ServerPlatform()) throws {
        let request = request.sized(platform)
        self.request = request
        self.platform = platform
        // A program started through /proc/self/exe is called "exe", but ServerProcess looks for this name.
        if let problem = SystemCall.setThreadName("ublk-script") {
            throw DeviceError.system(call: "prctl(PR_SET_NAME)", path: "", problem)
        }
        plan = try Self.plan(request)
        endedFD = try Self.makeEventFD()
        let lifecycle = try Lifecycle(
            platform,
            state: request.state,
            recovering: request.recovered
        )
        self.lifecycle = lifecycle
        if let record = request.recovered {
            data = try DataChoice(recovering: record)
        } else {
            data = try DataChoice(plan.config.data) { () throws(DeviceError) in
                try lifecycle.driver.features()
            }
        }
        lines = try LinePipe()
        let newFiles = request.newFiles
        do {
            ledgerFile = try request.ledgerFile.map { path throws(DeviceError) in
                try LedgerFile(path: path, newFiles: newFiles, continues: request.recovered != nil)
            }
            backings = try Self.stores(plan.config, request, platform)
            try Self.lockMemory(for: plan.config, backings, platform)
            sharedMemory =
                data.mode.sharesMemory && request.recovered == nil
                ? try Self.sharedMemory(plan.config) : nil
        } catch {
            newFiles.removeAll()
            throw error
        }
        reachBytes = DeviceConfig.reachBytes(of: backings.sizeBytes)
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

    /// Makes the device, unless it is recovered, and starts serving it; a failure leaves things as they were.
    func bringUp() throws -> DeviceRecord {
        try lifecycle.bringUp(self)
        guard let record else { preconditionFailure("a device that is up has a record") }
        try startGuard()
        SystemCall.liftLimits()
        logger.info(
            "device \(id) is \(request.recovered == nil ? "live" : "served again"): \(Quantity.text(bytes: sizeBytes)), script \(record.script), seed \(plan.seed)"
        )
        return record
    }

    /// A random cookie that is exact as a JSON number.
    static func newCookie() -> UInt64 { UInt64.random(in: 1..<(1 << 53)) }
    /// The cleanup to start when this process has to end at once.
    var aftermath: Aftermath { Aftermath(cookie: request.cookie) }
    /// Removes the files that were made for a device that did not come up.
    func removeNewFiles() { request.newFiles.removeAll() }

    /// Replaces the record, and the script beside it by the one that runs.
    func keep(_ record: DeviceRecord) throws(DeviceError) {
        self.record = record
        try lifecycle.keep(stored(record))
    }

    private func stored(_ record: DeviceRecord) -> StoredRecord {
        StoredRecord(json: request.encode(record), script: plan.source.text, bank: plan.bank)
    }

    /// Starts the watchdog's thread unless it runs.
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
}

// MARK: Steps of the lifecycle

extension DeviceServer: LifecycleHost {
    var params: DeviceParams { plan.config.params(sizeBytes: sizeBytes) }
    var scansPartitions: Bool { plan.config.scansPartitions }
    var servedIOs: UInt64 { contexts.reduce(0) { $0 + $1.control.counters.total } }

    func openLog(of id: DeviceID) throws {
        let sink = try request.openLog(id)
        self.sink.set(sink)
        logger = Logger(label: "ublk-script") { _ in LineLogHandler(sink: sink) }
        if info.queues != plan.config.queues {
            logger.warning(
                "\(plan.config.queues) queues asked for, \(info.queues) granted: one per CPU is the driver's limit"
            )
        }
        // Threads inherit the flag; the main thread set it before it started any.
        guard !SystemCall.isIOFlusher else { return }
        logger.warning(
            "PR_SET_IO_FLUSHER was refused: under memory pressure the device may wait for itself"
        )
    }

    func note(_ remark: String) { logger.info("\(remark)") }

    func makeRecord() -> StoredRecord {
        let record = DeviceRecord(
            id: id.rawValue,
            serverPID: getpid(),
            cookie: request.cookie,
            script: request.source.recordedPath,
            origin: request.source.origin,
            loadedScript: request.state.scriptPath(id, bank: plan.bank),
            backing: plan.config.backing.rawValue,
            file: backings.ownFile.map { AbsolutePath.of($0.path) },
            isShared: plan.config.isShared ? true : nil,
            sizeBytes: sizeBytes,
            logicalBlockBytes: plan.config.logicalBlockBytes,
            seed: plan.seed,
            settings: request.settings,
            directory: request.source.directory,
            driver: DeviceRecord.Driver(info, params),
            data: data.mode.rawValue,
            dataReason: data.reason,
            sharedMemory: sharedMemory?.path,
            ledgerFile: request.ledgerFile.map { AbsolutePath.of($0) },
            patienceSeconds: request.patienceSeconds,
            restarts: request.deaths.map { _ in true }
        )
        self.record = record
        return stored(record)
    }

    func listen(at path: String) throws(DeviceError) {
        callers = try AdminCallers(path: path, requestBytesMax: AdminSocket.reloadBytesMax)
    }

    func startQueues(_ characterFD: Int32) throws {
        do {
            try startThreads(characterFD)
            try startLedgerFile()
            if plan.needsWatchdog { try startWatchdog() }
            // START_DEV would wait forever for a queue that did not come up.
            for context in contexts {
                guard let outcome = context.ready.wait(seconds: 20) else {
                    throw DeviceError.unsupported(
                        "queue \(context.queue.rawValue) did not come up within 20 s"
                    )
                }
                if let problem = outcome { throw DeviceError.unsupported(problem) }
            }
            sealLive()
        } catch {
            endQueues()
            throw error
        }
    }

    private func startThreads(_ characterFD: Int32) throws {
        let shared = makeShared()
        for index in 0..<info.queues {
            let context = try context(QueueID(index), characterFD, shared)
            contexts.append(context)
            let endedFD = endedFD
            let run = platform.queue
            let problem = threads.start(QueueThread.name(QueueID(index))) {
                run(context)
                SystemCall.notify(endedFD)
            }
            if let problem { throw Self.noThread("queue \(index)", problem) }
        }
    }

    private func context(
        _ queue: QueueID,
        _ characterFD: Int32,
        _ shared: SharedObjects
    ) throws -> QueueContext {
        let memory = try TagBuffers(
            depth: Int(plan.config.depth),
            maxIOBytes: Int(plan.config.maxIOBytes),
            isBatched: info.features.contains(.batchIO)
        )
        if plan.config.locksMemory { try Self.populate(memory) }
        let affinity = try lifecycle.driver.affinity(of: queue, device: id)
        let wakeup = try Self.makeEventFD()
        return QueueContext(
            queue: queue,
            plan: plan,
            sizeBytes: sizeBytes,
            backings: backings,
            characterFD: characterFD,
            wakeupFD: wakeup,
            memory: memory,
            dataMode: DataMode(info.features) ?? .copy,
            sharedBuffer: lifecycle.sharedBuffer,
            descriptorBytes: Int(info.descriptorBytes),
            affinity: affinity,
            shared: shared,
            ruleCounters: ruleCounters,
            loadTime: loadTime,
            goesOn: live.goesOn,
            control: control(queue, wakeupFD: wakeup),
            lines: lines,
            ready: Promise()
        )
    }

    private func control(_ queue: QueueID, wakeupFD: Int32) -> QueueControl {
        let control = QueueControl(
            ledger: Ledger(queue: queue, capacity: plan.config.ledgerRecords),
            watchdog: watchdog,
            wake: { SystemCall.notify(wakeupFD) }
        )
        if isArmed { control.arm() }
        return control
    }

    func endQueues() {
        for context in contexts { context.control.send(.quit) }
        watchdog.stop()
        threads.joinAll()
        finishLedgerFile()
        if failureSummary == nil, let summary = Self.summary(status, of: id) {
            failureSummary = summary
            logger.warning("\(summary)")
        }
        for context in contexts { close(context.wakeupFD) }
        contexts = []
    }

    func discardNewFiles() { removeNewFiles() }
}
