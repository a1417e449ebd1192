import Glibc
import Synchronization
import SystemPackage

/// A device of a script, simulated: production queues (``Queue``), each over a ``SimulatedTransport``, and what they
/// look at.
///
/// As many queues as the script asks for, all on the calling thread: they take turns, in the order of what comes to
/// them, with some chance from the seed where it comes to several at about the same time. So a run can be repeated.
struct SimulatedDevice: ~Copyable {
    /// What is the same for every kind of application.
    struct Options {
        /// nil: as many as the script says.
        var queues: Int?
        var faults = FileFaults()
        /// Copies of data that fail: ``SimulatedCopies/failing``.
        var failingCopies: [Int: Errno] = [:]
        var interventions: [SimulatedTransport.Intervention] = []
        /// Watches whatever scripts the queues run.
        var watchdog: Watchdog?
        /// Faults happen from the start; otherwise nothing is decided, as before START_DEV has returned.
        var isArmed = true
        /// Where the script's `log()` goes; -1: nowhere.
        var logFD: Int32 = -1
        /// Number of records that the ledger keeps; nil: as the script says.
        var ledgerCapacity: Int?
        /// Number of steps that the trace of a queue keeps; nil: nobody traces.
        var traceCapacity: Int?
    }

    let plan: LoadedScript.Plan
    let sizeBytes: UInt64
    let shared: SharedObjects
    let counters: RuleCounters
    let log: SimulationLog
    let machine: SimulatedMachine
    let lanes: [SimulatedLane]
    // They outlive the queues: views of them are in both transport and queue.
    private let stores: DeviceStores<SimulatedFile>
    /// Whose turn it is, of several whose turn it could be.
    private var random: SplitMix64

    /// - Parameter application: makes the one that uses the device, whose queues have so many tags together; told
    ///   whether what it reads is what was stored.
    /// - Throws: ``ScriptProblem``, ``MemoryStore/NoMemory``.
    init(
        _ plan: LoadedScript.Plan,
        _ options: Options,
        application: (_ tags: Int, _ keepsData: Bool) -> SimulatedApplication
    ) throws {
        let queues = options.queues ?? Int(plan.config.queues)
        let stores = try DeviceStores(plan.config, fileFaults: options.faults, seed: plan.seed)
        let keepsData = if case .null = stores.views[0] { false } else { true }
        let wakeups = (0..<queues).map { _ in QueueWakeup() }
        let controls = wakeups.enumerated().map { number, wakeup in
            let ledger = Ledger(
                queue: QueueID(UInt16(number)),
                capacity: options.ledgerCapacity ?? plan.config.ledgerRecords
            )
            return QueueControl(ledger: ledger, watchdog: options.watchdog) { wakeup.signal() }
        }
        let shared = SharedObjects(queues: queues)
        let counters = RuleCounters(count: plan.ruleCount)
        counters.lookForTriggers(plan.rules)
        let log = SimulationLog(wakeups: wakeups, controls: controls)
        let machine = SimulatedMachine(
            application: application(queues * Int(plan.config.depth), keepsData),
            files: stores.files,
            images: Self.images(plan.config, stores),
            controls: controls,
            seed: plan.seed
        )
        machine.copies.failing = options.failingCopies
        let parts = Parts(
            plan: plan,
            options: options,
            stores: stores,
            shared: shared,
            counters: counters,
            machine: machine,
            log: log
        )
        for control in controls { control.armed.store(options.isArmed, ordering: .relaxed) }
        let lanes = try wakeups.enumerated().map { try Self.lane($0, $1, parts) }
        // Only now: what throws must not leave half of a value that cannot be copied.
        self.plan = plan
        sizeBytes = Self.sizeBytes(plan)
        self.shared = shared
        self.counters = counters
        self.log = log
        self.machine = machine
        self.lanes = lanes
        self.stores = stores
        random = SplitMix64(seed: plan.seed, stream: 4)
    }

    /// What all queues are made of.
    private struct Parts {
        let plan: LoadedScript.Plan
        let options: Options
        let stores: DeviceStores<SimulatedFile>
        let shared: SharedObjects
        let counters: RuleCounters
        let machine: SimulatedMachine
        let log: SimulationLog
    }

    private static func lane(
        _ number: Int,
        _ wakeup: QueueWakeup,
        _ parts: Parts
    ) throws -> SimulatedLane {
        let id = QueueID(UInt16(number))
        let control = parts.machine.controls[number]
        let config = parts.plan.config
        let loaded = try parts.plan.load(
            queue: id,
            shared: parts.shared,
            counters: parts.counters,
            ledger: control.ledger,
            logFD: parts.options.logFD
        )
        let transport = SimulatedTransport(
            parts.machine,
            queue: number,
            depth: Int(config.depth),
            maxIOBytes: Int(config.maxIOBytes),
            mode: config.data ?? .copy,
            wakeup: wakeup,
            interventions: parts.options.interventions
        )
        var queue = try Queue(
            transport: transport,
            loaded: loaded,
            configuration: QueueConfiguration(
                queue: id,
                depth: Int(config.depth),
                sizeBytes: parts.stores.sizeBytes,
                maxIOBytes: Int(config.maxIOBytes),
                stores: parts.stores.views,
                config: config,
                rules: parts.plan.rules,
                seed: parts.plan.seed
            ),
            shared: parts.shared,
            control: control,
            report: parts.log
        )
        let trace = parts.options.traceCapacity.map { TraceRing(queue: id, capacity: $0) }
        if let trace { queue.beginTrace(trace) }
        return SimulatedLane(number: id, control: control, trace: trace, queue: queue)
    }

    /// Of the stores that are memory; those of files are the files'.
    private static func images(
        _ config: DeviceConfig,
        _ stores: DeviceStores<SimulatedFile>
    ) -> [Int: VolatileImage] {
        guard config.hasVolatileCache else { return [:] }
        var images: [Int: VolatileImage] = [:]
        for (number, store) in stores.views.enumerated() {
            guard case .memory(let memory) = store else { continue }
            // A declared backing may be the device's own, too.
            let same = (0..<number).first { stores.views[$0].isSame(as: store) }
            images[number] = same.flatMap { images[$0] } ?? VolatileImage(memory)
        }
        return images
    }

    /// A device whose script leaves its size to a file is as large as every simulated file.
    static func sizeBytes(_ plan: LoadedScript.Plan) -> UInt64 {
        plan.config.sizeBytes ?? Simulation.fileBytes
    }

    /// The first queue, which is the only one of a device that has one.
    var queue: Queue<SimulatedTransport> {
        _read { yield lanes[0].queue }
        nonmutating _modify { yield &lanes[0].queue }
    }

    /// Of the first queue.
    var control: QueueControl { lanes[0].control }

    /// A number of all queues together.
    func count(_ value: (QueueCounters) -> UInt64) -> UInt64 {
        lanes.reduce(0) { $0 + value($1.control.counters) }
    }

    /// IOs that the script has sent elsewhere.
    private var redirected: UInt64 {
        Outcome.all.filter(\.isElsewhere).reduce(0) { sum, outcome in
            sum + count { $0[outcome] }
        }
    }

    /// Serves until the transports have taken every tag back.
    mutating func run() {
        while lanes.contains(where: { !$0.queue.isOver }) { turn() }
        withExtendedLifetime(stores) {}
    }

    /// Serves until the application's requests are over, or never will be.
    ///
    /// The device stays for ``readBack(_:isAfterPowerLoss:)`` or ``run()``.
    mutating func runWorkload() {
        machine.application.isKept = true
        serveKept()
        if !canReadBack { machine.application.isKept = false }
    }

    private mutating func serveKept() {
        while !machine.isQuiet, !machine.isStuck { turn() }
    }

    /// The workload came to its end, and what it read was compared.
    var canReadBack: Bool {
        machine.isQuiet && !log.isStopped && !log.isInterrupted
            && machine.application.oracle != nil
    }

    /// Reads what was written as it is on the medium: no fault acts, handlers only say where data is.
    ///
    /// The device stays.
    mutating func readBack() -> DataCheck? {
        guard let oracle = machine.application.oracle else { return nil }
        for lane in lanes {
            lane.control.armed.store(false, ordering: .relaxed)
            // The application does not see this.
            lane.queue.trace(into: nil)
            if plan.handlers & IOOp.read.bit != 0 { lane.queue.configuration.alwaysAsks = true }
        }
        return read(oracle, nil, isAfterPowerLoss: false)
    }

    /// What a power loss takes, now that all was read back: blocks that a flush or FUA had made durable, and are not
    /// as they were then.
    ///
    /// Where data lies is a script's to say, and the map that it keeps in memory would be lost with the power as well:
    /// after one that has sent IO elsewhere nothing is looked at.
    ///
    /// - Returns: nil when that is none.
    mutating func losePower() -> DataCheck? {
        guard let oracle = machine.application.oracle, redirected == 0 else { return nil }
        let lost = machine.losePower()
        guard !lost.isEmpty, let check = read(oracle, lost, isAfterPowerLoss: true) else {
            return nil
        }
        return check.differing > 0 ? check : nil
    }

    /// - Parameter places: only blocks there; nil: all.
    private mutating func read(
        _ oracle: DataOracle,
        _ places: [Range<UInt64>]?,
        isAfterPowerLoss: Bool
    ) -> DataCheck? {
        let reads = oracle.reads(
            in: places,
            lengthMax: UInt64(plan.config.maxIOBytes),
            chunkBytes: UInt64(plan.config.chunkBytes)
        )
        let stream = RequestStream(
            Workload(reads),
            config: plan.config,
            sizeBytes: sizeBytes,
            seed: plan.seed
        )
        machine.application.readBack(stream, isAfterPowerLoss: isAfterPowerLoss)
        for lane in lanes { lane.queue.transport.offerIdle() }
        serveKept()
        return machine.application.oracle?.check
    }

    /// The device goes when what is in flight is over.
    mutating func end() {
        machine.application.isKept = false
        for lane in lanes { lane.queue.trace(into: lane.trace) }
        run()
    }

    /// What comes to queues within so little time comes to them in any order: their threads do not start at once.
    private static let latenessNanoseconds: UInt64 = 2_000

    /// Runs one turn of the queue whose turn it is.
    mutating func turn() {
        lanes[next()].turn()
    }

    /// The queue whose turn it is.
    private mutating func next() -> Int {
        guard lanes.count > 1 else { return 0 }
        machine.hasEvents = lanes.contains { $0.queue.transport.nextOwnEvent != nil }
        let turns = lanes.enumerated().compactMap { index, lane in
            lane.queue.isOver ? nil : lane.nextTurn.map { (index: index, at: $0) }
        }
        guard let first = turns.map(\.at).min() else {
            // Nothing comes by itself: whoever waits for ever says so.
            return lanes.firstIndex { !$0.queue.isOver } ?? 0
        }
        let latest = first.advanced(byNanoseconds: Self.latenessNanoseconds)
        let candidates = turns.filter { $0.at <= latest }
        guard candidates.count > 1 else { return candidates[0].index }
        return candidates[Int(random.below(UInt64(candidates.count)))].index
    }

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
