import Synchronization

/// Our own cost of an IO: the production queue with a script, less what its transport costs alone.
///
/// Rounds of both alternate, so that a machine that slows down slows both; medians are compared.
/// Time is the thread's own CPU time. The backing is null: no data is copied, so what is measured
/// is fetch, rules, handler and commit.
struct Benchmark {
    /// Least number of IOs, rounded up to whole turns.
    var requests = 1_000_000
    var rounds = 9
    var workload = Workload()

    struct Result: Codable, Equatable, Sendable {
        let rounds: Int
        /// Number of IOs in all rounds.
        let requests: Int
        /// Medians per IO.
        let ownNanoseconds: Double
        let transportNanoseconds: Double
        /// The fastest and the slowest round, less the transport's median.
        let ownNanosecondsMin: Double
        let ownNanosecondsMax: Double
        /// Number of allocations in all rounds; nil when they are not counted.
        let allocations: UInt64?
    }

    /// - Throws: ``ScriptProblem``, ``ConfigError``.
    func run(_ plan: LoadedScript.Plan) throws -> Result {
        try workload.check(plan.config, sizeBytes: sizeBytes(plan))
        let counter = AllocationCounter()
        var alone: [Double] = []
        var whole: [Round] = []
        // The first round warms caches and Lua's own tables and does not count.
        for round in 0...rounds {
            let baseline = runAlone(plan)
            let queue = try runQueue(plan, counter)
            guard round > 0 else { continue }
            alone.append(baseline)
            whole.append(queue)
        }
        let transport = Self.median(alone)
        let times = whole.map(\.nanoseconds)
        return Result(
            rounds: rounds,
            requests: whole.reduce(0) { $0 + $1.served },
            ownNanoseconds: Self.median(times) - transport,
            transportNanoseconds: transport,
            ownNanosecondsMin: (times.min() ?? 0) - transport,
            ownNanosecondsMax: (times.max() ?? 0) - transport,
            allocations: counter == nil ? nil : whole.reduce(0) { $0 + $1.allocations }
        )
    }

    private func depth(_ plan: LoadedScript.Plan) -> Int {
        min(workload.depth, Int(plan.config.depth))
    }

    private func transport(
        _ plan: LoadedScript.Plan,
        _ control: QueueControl
    ) -> BenchmarkTransport {
        let stream = RequestStream(
            workload,
            config: plan.config,
            sizeBytes: sizeBytes(plan),
            seed: plan.seed
        )
        return BenchmarkTransport(
            stream,
            depth: depth(plan),
            requests: requests,
            maxIOBytes: Int(plan.config.maxIOBytes),
            control: control
        )
    }

    private func sizeBytes(_ plan: LoadedScript.Plan) -> UInt64 {
        plan.config.sizeBytes ?? Simulation.fileBytes
    }

    /// Nanoseconds per IO of the transport without a queue.
    private func runAlone(_ plan: LoadedScript.Plan) -> Double {
        var transport = transport(plan, QueueControl {})
        let start = SystemCall.threadCPUNanoseconds
        transport.runAlone()
        return Double(SystemCall.threadCPUNanoseconds - start) / Double(transport.served)
    }

    /// What a round of a whole queue took.
    private struct Round {
        let served: Int
        let nanoseconds: Double
        let allocations: UInt64
    }

    private func runQueue(
        _ plan: LoadedScript.Plan,
        _ counter: AllocationCounter?
    ) throws -> Round {
        let shared = SharedObjects(queues: 1)
        let counters = RuleCounters(count: plan.ruleCount)
        let wakeup = QueueWakeup()
        let control = QueueControl { wakeup.signal() }
        let loaded = try plan.load(
            queue: QueueID(0),
            shared: shared,
            counters: counters,
            ledger: control.ledger,
            logFD: -1
        )
        control.armed.store(true, ordering: .relaxed)
        var queue = try Queue(
            transport: transport(plan, control),
            loaded: loaded,
            configuration: QueueConfiguration(
                queue: QueueID(0),
                depth: depth(plan),
                sizeBytes: sizeBytes(plan),
                maxIOBytes: Int(plan.config.maxIOBytes),
                stores: [.null(NullStore())],
                config: plan.config,
                rules: plan.rules,
                seed: plan.seed
            ),
            shared: shared,
            control: control,
            report: SimulationLog(wakeups: [wakeup], controls: [control])
        )
        let allocated = counter?.count ?? 0
        let start = SystemCall.threadCPUNanoseconds
        queue.run()
        let end = SystemCall.threadCPUNanoseconds
        let allocations = (counter?.count ?? 0) - allocated
        let served = queue.transport.served
        return Round(
            served: served,
            nanoseconds: Double(end - start) / Double(served),
            allocations: allocations
        )
    }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
    }
}
