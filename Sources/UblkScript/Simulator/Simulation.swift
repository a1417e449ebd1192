import Synchronization
import SystemPackage

/// One run of a script against a simulated device, in the calling thread.
///
/// The production ``Queue`` over a ``SimulatedTransport``. A file backing is simulated in memory of
/// the same size: the user's file is neither opened nor needed. One queue, whatever the script asks
/// for, so that a run can be repeated.
struct Simulation {
    var workload = Workload()
    var faults = FileFaults()
    var interventions: [SimulatedTransport.Intervention] = []
    /// Compares what is read with what was written.
    var checksData = true
    /// Keeps every request and its end in the result.
    var keepsFinished = false
    /// Faults happen from the start; otherwise nothing is decided, as before START_DEV has
    /// returned.
    var isArmed = true
    /// Where the script's `log()` goes; -1: nowhere.
    var logFD: Int32 = -1

    /// Size of a device whose script leaves that to its backing file.
    static let fileBytes: UInt64 = 1 << 30

    /// A million records are more than people read; the memory is only used as they come.
    static let ledgerCapacity = 1 << 20

    struct Result {
        let report: SimulationReport
        let finished: [SimulatedApplication.Finished]
        /// How often the backing file was asked for each kind of operation.
        let fileOperations: [FileOperation.Kind: Int]
        let ledger: Ledger
    }

    /// Runs the workload to its end.
    ///
    /// - Throws: ``ScriptProblem``, ``ConfigError`` for a workload that does not fit, ENOMEM as
    ///   `Errno`.
    func run(_ plan: LoadedScript.Plan) throws -> Result {
        let sizeBytes = plan.config.sizeBytes ?? Self.fileBytes
        try workload.check(plan.config, sizeBytes: sizeBytes)
        let shared = SharedObjects(queues: 1)
        let counters = RuleCounters(count: plan.ruleCount)
        counters.lookForTriggers(plan.rules)
        let bell = Doorbell()
        let ledger = Ledger(queue: QueueID(0), capacity: Self.ledgerCapacity)
        let watchdog = watchdog(plan)
        let control = QueueControl(ledger: ledger, watchdog: watchdog) { bell.ring() }
        let loaded = try plan.load(
            queue: QueueID(0),
            shared: shared,
            counters: counters,
            ledger: ledger,
            logFD: logFD
        )
        // They outlive the queue: views of them are in both transport and queue.
        let backings = try SimulatedBackings(
            plan.config,
            sizeBytes: sizeBytes,
            faults: faults,
            seed: plan.seed
        )
        control.armed.store(isArmed, ordering: .relaxed)
        let log = SimulationLog(bell: bell, control: control)
        var queue = try Queue(
            transport: transport(plan, sizeBytes, backings, bell, control),
            script: loaded.script,
            rules: loaded.rules,
            configuration: QueueConfiguration(
                queue: QueueID(0),
                depth: Int(plan.config.depth),
                sizeBytes: sizeBytes,
                maxIOBytes: Int(plan.config.maxIOBytes),
                backings: backings.backings,
                onError: plan.config.onError,
                budgetNanoseconds: plan.config.budgetNanoseconds,
                rules: plan.rules,
                seed: plan.seed
            ),
            shared: shared,
            control: control,
            report: log
        )
        run(&queue, watchdog)
        let result = Result(
            report: report(plan, sizeBytes, queue.transport, control, counters, log),
            finished: queue.transport.application.finished,
            fileOperations: queue.transport.files.reduce(into: [:]) {
                $0.merge($1.asked, uniquingKeysWith: +)
            },
            ledger: ledger
        )
        withExtendedLifetime(backings) {}
        return result
    }

    /// The one thing here that looks at real time: only a script that is broken comes to feel it.
    ///
    /// - Returns: nil when no script will run while the device does.
    private func watchdog(_ plan: LoadedScript.Plan) -> Watchdog? {
        guard plan.needsWatchdog || interventions.contains(where: \.message.isReload) else {
            return nil
        }
        return Watchdog(budgetNanoseconds: plan.config.budgetNanoseconds) {
            preconditionFailure("a handler is stuck in a C function and cannot be interrupted")
        }
    }

    private func run(_ queue: inout Queue<SimulatedTransport>, _ watchdog: Watchdog?) {
        guard let watchdog else { return queue.run() }
        watchdog.add(queue.script)
        let thread = OSThread(name: "sim-watchdog") { watchdog.run() }
        queue.run()
        watchdog.stop()
        thread.join()
        watchdog.remove(queue.script)
    }

    private func transport(
        _ plan: LoadedScript.Plan,
        _ sizeBytes: UInt64,
        _ backings: SimulatedBackings,
        _ bell: Doorbell,
        _ control: QueueControl
    ) -> SimulatedTransport {
        let config = plan.config
        let depth = Int(config.depth)
        // What a null backing returns is nobody's promise.
        let isChecked = checksData && backings.stores[0] != nil
        let unitBytes = workload.unitBytes(logicalBlockBytes: config.logicalBlockBytes)
        let application = SimulatedApplication(
            RequestStream(workload, config: config, sizeBytes: sizeBytes, seed: plan.seed),
            depth: min(workload.depth, depth),
            gapNanoseconds: workload.gapNanoseconds,
            queueDepth: depth,
            oracle: isChecked ? DataOracle(unitBytes: unitBytes, depth: depth) : nil,
            keepsFinished: keepsFinished
        )
        return SimulatedTransport(
            application: application,
            files: backings.files,
            depth: depth,
            maxIOBytes: Int(config.maxIOBytes),
            bell: bell,
            control: control,
            interventions: interventions,
            seed: plan.seed
        )
    }

    private func report(
        _ plan: LoadedScript.Plan,
        _ sizeBytes: UInt64,
        _ transport: borrowing SimulatedTransport,
        _ control: QueueControl,
        _ counters: RuleCounters,
        _ log: SimulationLog
    ) -> SimulationReport {
        let application = transport.application
        let actions: [QueueCounters.Kind] = [
            .failed, .dropped, .zeroed, .redirected, .answered, .corrupted, .torn, .delayed, .hung,
            .backingErrors,
            .scriptErrors,
        ]
        return SimulationReport(
            script: plan.source.path,
            seed: plan.seed,
            sizeBytes: sizeBytes,
            backing: plan.config.backing.rawValue,
            depth: min(workload.depth, Int(plan.config.depth)),
            end: log.isStopped ? .stopped : transport.heldForEver == nil ? .finished : .held,
            heldForEver: transport.heldForEver ?? 0,
            requestsWanted: workload.requests,
            requests: IOOp.allCases.compactMap { op in
                application.sentByOp[op].map { .init(name: op.name, count: UInt64($0)) }
            },
            actions: actions.filter { control.counters[$0] != 0 }
                .map { .init(name: $0.name, count: control.counters[$0]) },
            rules: plan.rules.enumerated().map { index, rule in
                .init(line: rule.line, acted: counters.acted(index))
            },
            errors: application.errors.sorted {
                ($1.value, $0.key.rawValue) < ($0.value, $1.key.rawValue)
            }
            .map { .init(name: $0.key.name, count: UInt64($0.value)) },
            data: application.oracle?.check,
            scriptErrors: log.errors,
            virtualSeconds: Double(transport.now.nanoseconds) / 1e9,
            latency: .init(
                medianNanoseconds: application.latency.nanoseconds(share: 0.5),
                p99Nanoseconds: application.latency.nanoseconds(share: 0.99),
                maxNanoseconds: application.latency.maxNanoseconds
            ),
            throughput: .init(
                columnNanoseconds: application.throughput.columnNanoseconds,
                requests: application.throughput.columns
            )
        )
    }
}
