import ArgumentParser

/// `simulate SCRIPT`: runs the production queue against a simulated driver, without root or a device.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Run a script against a simulated device, without root or a driver.",
        discussion: """
            The queue that serves real devices runs on a simulated driver with virtual time. An application is \
            simulated too: it keeps --depth requests in flight (32 without) and checks every block it \
            reads. The same seed gives the same run. A backing file is simulated in memory and never touched. A script that asks for several queues \
            gets them; they take turns.

            A script may name the workload that shows what it does, on a line of its first comment:
            -- Simulate: --rate 20 --time 1h size=64M. What the command line leaves open is taken from there.

            At the end faults are over and all that was written is read back. Then the power fails, which takes what no flush and no FUA \
            has made durable. Exit code 1 when the script raised, or \
            when data is not what was acknowledged last, or lost what was made durable; --allow script-errors,data takes that for success.

            With --test the tests that the script carries (test("name", function(disk) ... end)) are run instead, each \
            on a simulated device of its own.

            With --bench the cost of the script and of this program per IO is measured instead.
            """
    )

    @OptionGroup var options: ScriptOptions

    @Option(help: "Requests to make.")
    var ops: Int?

    @Option(help: "Seed of the run (default: the script's, or a random one).")
    var seed: String?

    @Option(
        help: "Kinds of request: \(Workload.names.joined(separator: ", ")).",
        completion: .list(Workload.names)
    )
    var rw: String?

    @Option(
        help:
            "A file that says what to do: a request a line, such as \"write 1M 4K\", or a job of fio's.",
        completion: .file()
    )
    var workload: String?

    @Option(help: "Requests a second, about (default: as many as there is room for).")
    var rate: Int?

    @Option(help: "How long requests are made, in virtual time: 24h.")
    var time: String?

    @Option(help: "Length of a request: 4K, or 4K-64K for lengths between.")
    var bs: String?

    @Flag(help: "Run the tests that the script carries.")
    var test = false

    @Flag(help: "Measure nanoseconds and allocations per IO.")
    var bench = false

    @Flag(help: "Print what was done to which request first, as the ledger of a device tells it.")
    var ledger = false

    @Flag(help: "Print each step of each request through the protocol first, as trace does.")
    var trace = false

    @Flag(help: "With --trace: say of the first step of each kind what it means.")
    var explain = false

    @Option(
        name: [.customShort("o"), .long],
        help: "With --trace: write the steps to a file for ui.perfetto.dev instead.",
        completion: .file()
    )
    var output: String?

    @Flag(help: ArgumentHelp(TracePrinter.openHelp))
    var open = false

    @Option(
        help: "Compare what would be printed with a file, and fail when it differs.",
        completion: .file()
    )
    var expect: String?

    @Option(
        help: ArgumentHelp(
            "What does not make the run a failure: script-errors, data (that differs), or both.",
            valueName: "what,..."
        )
    )
    var allow: String?

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() throws {
        // A wrong command line is reported before the script is read.
        try checkUsage()
        let source: ScriptSource
        do throws(ConfigError) { source = try options.source() } catch {
            throw Failure(error)
        }
        let suggested = source.suggestedRun
        let offer = open ? try TraceOffer() : nil
        try completed(by: suggested).run(source, suggested)
        if let output { try offer?.offer(output) }
    }

    private func checkUsage() throws {
        if options.number != nil {
            throw ValidationError("--number: a simulated device has none")
        }
        _ = try settings()
        _ = try allowedProblems()
        _ = try generatedWorkload()
        if bench { try refuse("--bench", ["--ledger", "--allow"]) }
        try checkTrace()
        if expect != nil { try refuse("--expect", ["--bench"]) }
        guard test else { return }
        // A test makes its own IOs.
        try refuse(
            "--test",
            [
                "--ops", "--rw", "--bs", "--rate", "--time", "--bench", "--ledger",
                "--workload", "--expect", "--allow",
            ]
        )
    }

    /// The settings of the command line for parameters and `device{}`, with `--seed`.
    private func settings() throws -> [Setting] {
        var settings = try options.overrides()
        guard let seed else { return settings }
        settings.append(Setting(key: "seed", value: .string(seed), origin: "option --seed"))
        do throws(ConfigError) { try Setting.refuseTwice(settings) } catch {
            throw ValidationError("\(error)")
        }
        return settings
    }

    private func run(_ source: ScriptSource, _ suggested: [String]) throws {
        let overrides = try settings()
        let allowed = try allowedProblems()
        let generated = try generatedWorkload()
        let file = try workload.map(workloadFile)
        let expected = try expect.map { try ExpectedOutput(reading: $0) }
        do {
            if test { return try runTests(source, overrides) }
            let plan = try LoadedScript.plan(source, overrides: overrides)
            let workload =
                try file?.workload(
                    depth: options.depth.flatMap { Int($0) },
                    config: plan.config,
                    sizeBytes: SimulatedDevice.sizeBytes(plan)
                ) ?? generated
            if bench { return try measure(plan, workload) }
            if let expected, !plan.isSeedGiven { throw expected.needsSeed }
            let (report, lines) = try simulate(plan, workload, suggested)
            if let expected {
                try expected.compare(lines)
            } else {
                for line in lines { if json { Output.line(line) } else { Output.record(line) } }
            }
            if report.end == .interrupted {
                throw Failure("interrupted: this is what there is so far")
            }
            if let problem = report.problem(allowed) { throw Failure(problem) }
        } catch let failure as Failure {
            throw failure
        } catch { throw Failure(error) }
    }

    private func workloadFile(_ path: String) throws -> WorkloadFile {
        try refuse("--workload", ["--ops", "--rw", "--bs", "--rate", "--time", "--bench"])
        let text = try InputFile.text(path)
        do throws(ConfigError) {
            let file = try WorkloadFile(name: path, text: text)
            if let note = file.note { Output.error(note) }
            return file
        } catch { throw Failure(error) }
    }

    /// Refuses options that have no meaning together with `option`.
    func refuse(_ option: String, _ names: [String]) throws {
        let given: [String: Bool] = [
            "--ops": ops != nil, "--rw": rw != nil, "--bs": bs != nil, "--rate": rate != nil,
            "--time": time != nil, "--bench": bench, "--ledger": ledger,
            "--allow": allow != nil, "--workload": workload != nil, "--test": test,
            "--expect": expect != nil,
        ]
        for name in names where given[name] == true {
            throw ValidationError("\(option) does not go with \(name)")
        }
    }

    private func generatedWorkload() throws -> Workload {
        guard var workload = Workload(named: rw ?? (bench ? "randrw" : "mixed")) else {
            throw ValidationError(
                "--rw \(rw ?? ""): one of \(Workload.names.joined(separator: ", ")) is expected"
            )
        }
        guard (ops ?? 1) > 0 else { throw ValidationError("--ops is at least 1") }
        let bs = bs ?? "4K"
        let lengths = bs.split(separator: "-", omittingEmptySubsequences: false)
            .map { Quantity.bytes(String($0)) }
        guard let first = lengths.first, let last = lengths.last, let least = first,
            let most = last,
            lengths.count <= 2, least > 0
        else {
            throw ValidationError("--bs \(bs): a size such as 4K, or two as in 4K-64K, is expected")
        }
        (workload.requests, workload.nanoseconds) = try requests()
        workload.rate = UInt64(rate ?? 0)
        // An invalid depth is refused later, with the device's settings.
        workload.depth = options.depth.flatMap { Int($0) } ?? workload.depth
        workload.blockBytes = least
        workload.blockBytesMax = most
        return workload
    }

    /// The number of requests (`--ops`) and the time limit (`--time`).
    private func requests() throws -> (Int, nanoseconds: UInt64?) {
        guard (rate ?? 1) > 0, (rate ?? 1) <= 1_000_000_000 else {
            throw ValidationError("--rate \(rate ?? 0): 1 to 1000000000 is expected")
        }
        guard let time else { return (ops ?? (bench ? 1_000_000 : 100_000), nil) }
        guard ops == nil, !bench else {
            throw ValidationError("--time does not go with \(bench ? "--bench" : "--ops")")
        }
        guard let nanoseconds = Quantity.nanoseconds(time), nanoseconds > 0 else {
            throw ValidationError("--time \(time): a time such as 10s, 5min or 24h is expected")
        }
        return (.max, nanoseconds)
    }

    /// Runs the simulation.
    ///
    /// - Returns: the report, and the lines to print.
    private func simulate(
        _ plan: LoadedScript.Plan,
        _ workload: Workload,
        _ suggested: [String]
    ) throws -> (SimulationReport, [String]) {
        var simulation = Simulation()
        simulation.workload = workload
        simulation.readsBack = true
        simulation.keepsTrace = trace
        simulation.logFD = 2
        let progress = Progress(
            of: workload.nanoseconds == nil ? workload.requests : nil,
            "requests"
        )
        defer { progress.finish() }
        simulation.observer = { progress.turn($0) }
        var result = try simulation.run(plan)
        if self.workload == nil, !suggested.isEmpty {
            result.report.suggestedRun = suggested.joined(separator: " ")
        }
        let report = json ? JSON.text(result.report) : SimulationText(result.report).text
        let lines =
            (ledger ? lines(result, plan) : []) + (trace ? try traceLines(result, plan) : [])
            + report.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        return (result.report, lines)
    }

    private struct TestReport: Encodable {
        let script: String
        let seed: UInt64
        let tests: [ScriptTestRun.Outcome]
        let passed: Int
        let failed: Int
    }

    private func runTests(_ source: ScriptSource, _ overrides: [Setting]) throws {
        let run = try ScriptTestRun(source, overrides: overrides, logFD: 2)
        let progress = Progress(of: run.count, "tests")
        defer { progress.finish() }
        let outcomes = try run.run(observer: { progress.turn($0) }) { outcome in
            guard !json else { return }
            progress.clear()
            Output.record(
                outcome.failure.map { "FAIL - \(outcome.name): \($0)" } ?? "ok - \(outcome.name)",
                painted: outcome.failure == nil ? .good : .bad
            )
            // So that each result is shown as soon as there is one.
            try? Output.flush()
        }
        progress.finish()
        let failed = outcomes.count { $0.failure != nil }
        let report = TestReport(
            script: source.path,
            seed: run.seed,
            tests: outcomes,
            passed: outcomes.count - failed,
            failed: failed
        )
        Output.line(
            json ? JSON.text(report) : "\(report.passed) passed, \(failed) failed"
        )
        if run.isInterrupted {
            throw Failure("interrupted: \(outcomes.count) of \(run.count) tests were over")
        }
        if outcomes.isEmpty {
            throw Failure("\(source.name) has no test: test(\"name\", function(disk) ... end)")
        }
        if failed > 0 {
            throw Failure("\(failed) of \(outcomes.count) tests failed (seed=\(run.seed))")
        }
    }

    func ledgerText(_ plan: LoadedScript.Plan) -> LedgerText {
        LedgerText(
            script: plan.source.shortName,
            rules: plan.rules,
            seed: plan.seed,
            isJSON: json
        )
    }

    private func lines(_ result: Simulation.Result, _ plan: LoadedScript.Plan) -> [String] {
        let format = ledgerText(plan)
        var reader = LedgerReader()
        let all = reader.read(result.queues.map(\.ledger), limit: .max)
        if all.lost > 0 { Output.error("\(all.lost) older records were overwritten") }
        return all.entries.filter { $0.number < result.queues[$0.queue.index].ledgerTotal }
            .map { format.line($0.record, queue: $0.queue) }
    }

    private func measure(_ plan: LoadedScript.Plan, _ workload: Workload) throws {
        var benchmark = Benchmark()
        benchmark.requests = workload.requests
        benchmark.workload = workload
        let result = try benchmark.run(plan)
        Output.line(json ? JSON.text(result) : Self.text(result))
    }

    static func text(_ result: Benchmark.Result) -> String {
        func tenths(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
        var text = """
            own cost per IO: \(tenths(result.ownNanoseconds)) ns \
            (\(tenths(result.ownNanosecondsMin)) to \(tenths(result.ownNanosecondsMax)) in \(result.rounds) rounds, \
            \(result.requests) IOs; the transport's \(tenths(result.transportNanoseconds)) ns are taken off)
            allocations per IO:
            """
        guard let allocations = result.allocations else {
            return text + " not counted (use scripts/bench)"
        }
        let millionths = (Double(allocations) / Double(result.requests) * 1e6).rounded()
        let digits = String(Int(millionths) % 1_000_000)
        let padded = String(repeating: "0", count: 6 - digits.count) + digits
        text += " \(Int(millionths) / 1_000_000).\(padded)"
        return text + " (\(allocations) in \(result.requests) IOs)"
    }
}
