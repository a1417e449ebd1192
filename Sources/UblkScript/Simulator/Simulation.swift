import Glibc
import Synchronization
import SystemPackage

/// One run of a script against a simulated device, in the calling thread.
///
/// Production queues, as many as the script asks for, on a ``SimulatedDevice``. A file backing is simulated in memory
/// of the same size: the user's file is neither opened nor needed.
struct Simulation {
    var workload = Workload()
    var faults = FileFaults()
    /// Copies of data that fail: ``SimulatedCopies/failing``.
    var failingCopies: [Int: Errno] = [:]
    var interventions: [SimulatedTransport.Intervention] = []
    /// Compares what is read with what was written.
    var checksData = true
    /// Reads everything that was written at the end, when faults are over.
    var readsBack = false
    /// Keeps every request and its end in the result.
    var keepsFinished = false
    /// Faults happen from the start; otherwise nothing is decided, as before START_DEV has
    /// returned.
    var isArmed = true
    /// Every step of every request is kept in the result.
    var keepsTrace = false
    /// Where the script's `log()` goes; -1: nowhere.
    var logFD: Int32 = -1
    /// A function that is called again and again on a thread of its own, with the number of IOs that arrived so far;
    /// true ends the run early.
    ///
    /// The function waits by itself, and may be called once more after the end of the run.
    var observer: (@Sendable (UInt64) -> Bool)?

    /// Size of a device whose script takes its size from a backing file.
    static let fileBytes: UInt64 = 1 << 30

    /// A million records are more than people read; the memory is only used as they come.
    static let ledgerCapacity = 1 << 20
    /// Of steps, for each queue; some are for each request.
    static let traceCapacity = 1 << 20

    struct Result {
        var report: SimulationReport
        let finished: [SimulatedApplication.Finished]
        /// How often the backing file was asked for each kind of operation.
        let fileOperations: [FileOperation.Kind: Int]
        let copies: SimulatedCopies
        let queues: [QueueResult]
    }

    /// What one queue has noted.
    struct QueueResult {
        let ledger: Ledger
        /// Records of the workload; later ones are of the reading back.
        let ledgerTotal: UInt64
        let counters: QueueCounters
        let times: IOTimes
        let trace: TraceRing?
    }

    /// Runs the workload to its end.
    ///
    /// - Throws: ``ScriptProblem``, ``ConfigError`` for a workload that does not fit,
    ///   ``MemoryStore/NoMemory``.
    func run(_ plan: LoadedScript.Plan) throws -> Result {
        let sizeBytes = SimulatedDevice.sizeBytes(plan)
        try workload.check(plan.config, sizeBytes: sizeBytes)
        let watchdog = watchdog(plan)
        let options = SimulatedDevice.Options(
            faults: faults,
            failingCopies: failingCopies,
            interventions: interventions,
            watchdog: watchdog,
            isArmed: isArmed,
            logFD: logFD,
            ledgerCapacity: Self.ledgerCapacity,
            traceCapacity: keepsTrace ? Self.traceCapacity : nil
        )
        var device = try SimulatedDevice(plan, options) { tags, keepsData in
            application(plan, sizeBytes, tags: tags, keepsData: keepsData)
        }
        let (report, ledgerTotals) = run(&device, watchdog)
        try tell(device.machine.application.said)
        return Result(
            report: report,
            finished: device.machine.application.finished,
            fileOperations: device.machine.files.reduce(into: [:]) {
                $0.merge($1.asked, uniquingKeysWith: +)
            },
            copies: device.machine.copies,
            queues: zip(device.lanes, ledgerTotals).map { lane, total in
                QueueResult(
                    ledger: lane.ledger,
                    ledgerTotal: total,
                    counters: lane.control.counters,
                    times: lane.control.times,
                    trace: lane.trace
                )
            }
        )
    }

    /// Logs the answers to the workload's `ctl` words.
    ///
    /// - Throws: for the first word that was refused.
    private func tell(_ said: [SaidWord]) throws(ConfigError) {
        for word in said {
            guard let answer = word.answer.ready.map({ ControlAnswer($0) }) else { continue }
            let text = "ctl \(word.words.joined(separator: " ")): \(answer.text)"
            guard answer.isOK else { throw ConfigError(origin: word.origin, text: text) }
            guard logFD >= 0, !answer.text.isEmpty, word.isTold else { continue }
            let line = Array(Printable.text("\(word.origin): \(text)\n").utf8)
            _ = unsafe line.withUnsafeBytes { unsafe write(logFD, $0.baseAddress, $0.count) }
        }
    }

    /// Makes the watchdog; nil when no script will run while the device does.
    private func watchdog(_ plan: LoadedScript.Plan) -> Watchdog? {
        let isNeeded = plan.needsWatchdog || interventions.contains(where: \.message.isReload)
        return isNeeded ? SimulatedDevice.watchdog(plan) : nil
    }

    private func run(
        _ device: inout SimulatedDevice,
        _ watchdog: Watchdog?
    ) -> (SimulationReport, ledgerTotals: [UInt64]) {
        let observation = observer.map { Observation($0, device.machine.controls, device.log) }
        defer { observation?.end() }
        guard let watchdog else { return serve(&device) }
        for lane in device.lanes { watchdog.add(lane.queue.script) }
        let thread = OSThread(name: "sim-watchdog") { watchdog.run() }
        let result = serve(&device)
        watchdog.stop()
        thread.join()
        for lane in device.lanes { watchdog.remove(lane.queue.script) }
        return result
    }

    /// Runs the workload, and then reads back everything that it has written.
    private func serve(
        _ device: inout SimulatedDevice
    ) -> (SimulationReport, ledgerTotals: [UInt64]) {
        if readsBack { device.runWorkload() }
        guard readsBack, device.canReadBack else {
            device.run()
            return (report(device), device.lanes.map(\.ledger.total))
        }
        var report = report(device)
        let ledgerTotals = device.lanes.map(\.ledger.total)
        report.readBack = device.readBack()
        report.powerLoss = device.losePower()
        device.end()
        report.scriptErrors = device.log.errors
        return (report, ledgerTotals)
    }

    private func application(
        _ plan: LoadedScript.Plan,
        _ sizeBytes: UInt64,
        tags: Int,
        keepsData: Bool
    ) -> SimulatedApplication {
        let config = plan.config
        // The data that a null backing returns is undefined.
        let isChecked = checksData && keepsData
        let unitBytes = workload.unitBytes(logicalBlockBytes: config.logicalBlockBytes)
        return SimulatedApplication(
            RequestStream(workload, config: config, sizeBytes: sizeBytes, seed: plan.seed),
            depth: min(workload.depth, tags),
            gapNanoseconds: workload.gapNanoseconds,
            endsAt: workload.nanoseconds.map { Instant(nanoseconds: $0) },
            queueDepth: tags,
            oracle: isChecked
                ? DataOracle(
                    unitBytes: unitBytes,
                    depth: tags,
                    isVolatile: config.hasVolatileCache
                ) : nil,
            keepsFinished: keepsFinished
        )
    }

    private func report(_ device: borrowing SimulatedDevice) -> SimulationReport {
        let plan = device.plan
        let counters = device.counters
        let log = device.log
        let application = device.machine.application
        let actions: [QueueCounters.Kind] = [
            .corrupted, .torn, .delayed, .hung, .backingErrors, .scriptErrors, .copyErrors,
        ]
        let heldForEver = device.machine.heldForEver
        return SimulationReport(
            script: plan.source.path,
            seed: plan.seed,
            sizeBytes: device.sizeBytes,
            backing: plan.config.backing.rawValue,
            queues: device.lanes.count > 1 ? device.lanes.count : nil,
            depth: min(workload.depth, Int(plan.config.depth) * device.lanes.count),
            end: log.isInterrupted
                ? .interrupted : log.isStopped ? .stopped : heldForEver == nil ? .finished : .held,
            heldForEver: heldForEver ?? 0,
            requestsWanted: workload.nanoseconds == nil ? workload.requests : nil,
            requests: IOOp.allCases.compactMap { op in
                application.sentByOp[op].map { .init(name: op.name, count: UInt64($0)) }
            },
            actions: QueueCounters.named(actions)
                .map { .init(name: $0.name, count: device.count($0.value)) }
                .filter { $0.count != 0 },
            rules: plan.rules.enumerated().map { index, rule in
                .init(line: rule.line, name: rule.name, acted: counters.acted(index))
            },
            errors: application.errors.sorted {
                ($1.value, $0.key.rawValue) < ($0.value, $1.key.rawValue)
            }
            .map { .init(name: $0.key.name, count: UInt64($0.value)) },
            data: application.oracle?.check,
            scriptErrors: log.errors,
            virtualSeconds: Double(device.machine.now.nanoseconds) / 1e9,
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
