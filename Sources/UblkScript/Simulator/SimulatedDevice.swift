import Glibc
import Synchronization

/// A device of a script, simulated: the production ``Queue`` over a ``SimulatedTransport``, and what both look at.
///
/// One queue, whatever the script asks for, so that a run can be repeated. Belongs to the calling thread.
struct SimulatedDevice: ~Copyable {
    /// What is the same for every kind of application.
    struct Options {
        var faults = FileFaults()
        var interventions: [SimulatedTransport.Intervention] = []
        /// Watches whatever script the queue runs.
        var watchdog: Watchdog?
        /// Faults happen from the start; otherwise nothing is decided, as before START_DEV has returned.
        var isArmed = true
        /// Where the script's `log()` goes; -1: nowhere.
        var logFD: Int32 = -1
        /// Number of records that the ledger keeps; nil: as the script says.
        var ledgerCapacity: Int?
    }

    let plan: LoadedScript.Plan
    let sizeBytes: UInt64
    let shared: SharedObjects
    let counters: RuleCounters
    let ledger: Ledger
    let control: QueueControl
    let log: SimulationLog
    var queue: Queue<SimulatedTransport>
    // They outlive the queue: views of them are in both transport and queue.
    private let stores: DeviceStores<SimulatedFile>

    /// - Parameter application: makes the one that uses the device; told whether what it reads is what was stored.
    /// - Throws: ``ScriptProblem``, ``MemoryStore/NoMemory``.
    init(
        _ plan: LoadedScript.Plan,
        _ options: Options,
        application: (_ keepsData: Bool) -> SimulatedApplication
    ) throws {
        let sizeBytes = Self.sizeBytes(plan)
        let shared = SharedObjects(queues: 1)
        let counters = RuleCounters(count: plan.ruleCount)
        counters.lookForTriggers(plan.rules)
        let bell = Doorbell()
        let ledger = Ledger(
            queue: QueueID(0),
            capacity: options.ledgerCapacity ?? plan.config.ledgerRecords
        )
        let control = QueueControl(ledger: ledger, watchdog: options.watchdog) { bell.ring() }
        let loaded = try plan.load(
            queue: QueueID(0),
            shared: shared,
            counters: counters,
            ledger: ledger,
            logFD: options.logFD
        )
        let stores = try DeviceStores(plan.config, fileFaults: options.faults, seed: plan.seed)
        let views = stores.views
        let keepsData = if case .null = views[0] { false } else { true }
        control.armed.store(options.isArmed, ordering: .relaxed)
        let log = SimulationLog(bell: bell, control: control)
        let transport = SimulatedTransport(
            application: application(keepsData),
            files: stores.files,
            depth: Int(plan.config.depth),
            maxIOBytes: Int(plan.config.maxIOBytes),
            bell: bell,
            control: control,
            interventions: options.interventions,
            seed: plan.seed
        )
        let queue = try Queue(
            transport: transport,
            loaded: loaded,
            configuration: Self.configuration(plan, views, sizeBytes: stores.sizeBytes),
            shared: shared,
            control: control,
            report: log
        )
        // Only now: what throws must not leave half of a value that cannot be copied.
        self.plan = plan
        self.sizeBytes = sizeBytes
        self.shared = shared
        self.counters = counters
        self.ledger = ledger
        self.control = control
        self.log = log
        self.queue = queue
        self.stores = stores
    }

    private static func configuration(
        _ plan: LoadedScript.Plan,
        _ stores: [Store],
        sizeBytes: UInt64
    ) -> QueueConfiguration {
        QueueConfiguration(
            queue: QueueID(0),
            depth: Int(plan.config.depth),
            sizeBytes: sizeBytes,
            maxIOBytes: Int(plan.config.maxIOBytes),
            stores: stores,
            config: plan.config,
            rules: plan.rules,
            seed: plan.seed
        )
    }

    /// A device whose script leaves its size to a file is as large as every simulated file.
    static func sizeBytes(_ plan: LoadedScript.Plan) -> UInt64 {
        plan.config.sizeBytes ?? Simulation.fileBytes
    }

    /// Serves until the transport has taken every tag back.
    mutating func run() {
        queue.run()
        withExtendedLifetime(stores) {}
    }

    /// Serves until the application's requests are over, or never will be.
    ///
    /// The device stays for ``readBack()`` or ``run()``.
    mutating func runWorkload() {
        queue.transport.keep()
        while !queue.transport.isIdle, !queue.transport.isStuck { queue.turn() }
        if !canReadBack { queue.transport.letGo() }
    }

    /// The workload came to its end, and what it read was compared.
    var canReadBack: Bool {
        queue.transport.isIdle && !log.isStopped && !log.isInterrupted
            && queue.transport.application.oracle != nil
    }

    /// Reads what was written as it is on the medium: no fault acts, handlers only say where data is.
    mutating func readBack() -> DataCheck? {
        guard let oracle = queue.transport.application.oracle else { return nil }
        control.armed.store(false, ordering: .relaxed)
        if plan.handlers & IOOp.read.bit != 0 { queue.configuration.alwaysAsks = true }
        let reads = oracle.reads(
            lengthMax: UInt64(plan.config.maxIOBytes),
            chunkBytes: UInt64(plan.config.chunkBytes)
        )
        queue.transport.readBack(
            RequestStream(
                Workload(reads),
                config: plan.config,
                sizeBytes: sizeBytes,
                seed: plan.seed
            )
        )
        run()
        return queue.transport.application.oracle?.check
    }

    /// Runs one turn of the queue.
    mutating func turn() { queue.turn() }

    /// A watchdog for scripts that run on the calling thread.
    ///
    /// The one thing here that looks at real time: only a script that is broken comes to feel it.
    static func watchdog(_ plan: LoadedScript.Plan) -> Watchdog {
        let text =
            "ublk-script: \(plan.source.name): a handler is stuck in a C function for 5 s and cannot be interrupted\n"
        return Watchdog(budgetNanoseconds: plan.config.budgetNanoseconds) {
            let bytes = Array(text.utf8)
            _ = unsafe bytes.withUnsafeBytes {
                unsafe write(STDERR_FILENO, $0.baseAddress, $0.count)
            }
            _exit(1)
        }
    }
}
