import Synchronization

/// Runs the tests that a script carries, one after the other in the calling thread.
///
/// Each gets a fresh ``SimulatedDevice`` of the script, with the settings it asks for and one seed for all, and a fresh
/// Lua state for its function. That state has loaded the script too, as another queue's would: what has a name
/// (ranges, counters, buckets) is the device's, plain variables are not.
struct ScriptTestRun {
    /// The result of one test.
    struct Outcome: Codable, Equatable, Sendable {
        let name: String
        /// Line of the test's declaration.
        let line: Int32
        /// The place and the reason of the failure; nil: the test passed.
        let failure: String?
    }

    private let source: ScriptSource
    /// The seed of every device.
    let seed: UInt64
    /// The tests of the script, each with the plan of its device.
    private let tests: [(test: ScriptTest, plan: LoadedScript.Plan)]
    /// Where the script's `log()` goes; -1: nowhere.
    private let logFD: Int32
    /// What whoever looks on wants and sees.
    private let course = Course()

    /// How far a run is, for a thread beside it.
    private final class Course: Sendable {
        let done = Atomic<UInt64>(0)
        let isInterrupted = Atomic(false)
        let isOver = Atomic(false)
    }

    var count: Int { tests.count }
    /// True when the run was ended before all tests were over.
    var isInterrupted: Bool { course.isInterrupted.load(ordering: .relaxed) }

    /// Finds the tests, and checks the settings of each.
    ///
    /// - Throws: ``ScriptProblem``.
    init(_ source: ScriptSource, overrides: [Setting], logFD: Int32 = -1) throws {
        let plan = try LoadedScript.plan(source, overrides: overrides)
        let seeded =
            overrides + [
                Setting(key: "seed", value: .string("\(plan.seed)"), origin: "the first run")
            ]
        self.source = source
        self.logFD = logFD
        seed = plan.seed
        let found = try plan.loadTests(shared: SharedObjects(queues: 1), logFD: -1).tests
        tests = try found.map { test in
            let own = test.overrides(source: source.name)
            return (test, try LoadedScript.plan(source, overrides: seeded + own))
        }
    }

    /// Runs all tests.
    ///
    /// - Parameters:
    ///   - observer: called again and again by a thread beside, with how many are over; true ends the run.
    ///   - report: called after each.
    /// - Returns: the results of the tests that were over.
    /// - Throws: ``ScriptProblem``, ``MemoryStore/NoMemory``.
    func run(
        observer: (@Sendable (UInt64) -> Bool)? = nil,
        _ report: (Outcome) -> Void = { _ in }
    ) throws -> [Outcome] {
        if let observer {
            // Nobody waits for the thread: what it looks at lives as long as it does.
            _ = OSThread(name: "test-observer") { [course] in
                while !course.isOver.load(ordering: .relaxed) {
                    if observer(course.done.load(ordering: .relaxed)) {
                        course.isInterrupted.store(true, ordering: .relaxed)
                    }
                }
            }
        }
        defer { course.isOver.store(true, ordering: .relaxed) }
        var outcomes: [Outcome] = []
        for (test, plan) in tests {
            var bench = try TestBench(plan, logFD: logFD) { [course] in
                course.isInterrupted.load(ordering: .relaxed)
            }
            // The test's settings may have changed what there is.
            guard let index = bench.tests.firstIndex(of: test) else {
                throw ScriptProblem.config(
                    ConfigError(
                        origin: "\(source.name):\(test.line)",
                        text: "the test \"\(test.name)\" is not declared on every run of the script"
                    )
                )
            }
            let failure = bench.run(index).map { place($0, test) }
            // What was done to one that did not end says nothing about the script.
            guard !isInterrupted else { break }
            let outcome = Outcome(name: test.name, line: test.line, failure: failure)
            outcomes.append(outcome)
            course.done.store(UInt64(outcomes.count), ordering: .relaxed)
            report(outcome)
        }
        return outcomes
    }

    /// With the test's own place where a failure names none.
    private func place(_ failure: String, _ test: ScriptTest) -> String {
        failure.hasPrefix(source.name + ":")
            ? failure : "\(source.name):\(test.line): \(failure)"
    }
}

/// One test with its device: does what the test asks for, until it is over.
private struct TestBench: ~Copyable {
    private var device: SimulatedDevice
    private let script: Script
    /// Numbers of the requests that are over.
    private var over: Set<UInt64> = []
    private let isInterrupted: () -> Bool

    init(
        _ plan: LoadedScript.Plan,
        logFD: Int32,
        isInterrupted: @escaping () -> Bool
    ) throws {
        self.isInterrupted = isInterrupted
        // A test makes one request after the other, as from one CPU: one queue has them all.
        let options = SimulatedDevice.Options(queues: 1, logFD: logFD)
        let device = try SimulatedDevice(plan, options) { tags, _ in
            SimulatedApplication(handedTo: tags)
        }
        let script = try plan.loadTests(shared: device.shared, logFD: logFD)
        self.device = device
        self.script = script
    }

    var tests: [ScriptTest] { script.tests }

    private var now: Instant { device.queue.rules.deviceTime(device.queue.transport.now) }

    /// Why the test failed; nil: it passed.
    mutating func run(_ index: Int) -> String? {
        let watchdog = SimulatedDevice.watchdog(device.plan)
        watchdog.add(script)
        watchdog.add(device.queue.script)
        let thread = OSThread(name: "test-watchdog") { watchdog.run() }
        let failure = follow(index)
        device.queue.transport.close()
        device.control.send(.drain)
        device.run()
        watchdog.stop()
        thread.join()
        watchdog.remove(device.queue.script)
        watchdog.remove(script)
        return verdict(failure)
    }

    /// A test whose device raised has not passed, whatever it looked at.
    private func verdict(_ failure: String?) -> String? {
        let raised = device.log.errors
        guard raised.count > 0 else { return failure }
        let texts = raised.texts.joined(separator: "\n    ")
        guard let failure else { return texts + " (raised by the script while it served)" }
        return failure + "\n    the script raised: " + texts
    }

    /// The time budget is one of each stretch between two calls; this ends what waits for ever.
    private static let callsMax = 200_000

    private static let interrupted = "interrupted"

    private mutating func follow(_ index: Int) -> String? {
        let config = device.plan.config
        let disk = ScriptTest.Disk(
            sizeBytes: device.sizeBytes,
            blockBytes: UInt64(config.logicalBlockBytes),
            maxIOBytes: UInt64(config.maxIOBytes)
        )
        var step = script.beginTest(index, disk: disk, now: now)
        for _ in 0..<Self.callsMax {
            if isInterrupted() { return Self.interrupted }
            switch step {
            case .passed: return nil
            case .failed(let error): return error.text
            case .wants(let want):
                do throws(ScriptError) {
                    let answer = try meet(want)
                    step = script.resumeTest(
                        refusal: answer.isOK ? nil : answer.text,
                        answer: answer.isOK ? answer.text : nil,
                        now: now
                    )
                } catch { return error.text }
            }
        }
        return "interrupted: a test may call its disk \(Self.callsMax) times"
    }

    /// What a call gets: nothing, a text, or an error.
    private struct Answer {
        let isOK: Bool
        let text: String?
        static let nothing = Answer(isOK: true, text: nil)
        static func refused(_ text: String) -> Answer { Answer(isOK: false, text: text) }
    }

    private mutating func meet(_ want: ScriptTest.Want) throws(ScriptError) -> Answer {
        switch want {
        case .send(let request, let waits):
            if let refusal = send(request) { return .refused(refusal) }
            return waits ? try finish(request.number) : .nothing
        case .finish(let number): return try finish(number)
        case .advance(let nanoseconds):
            device.queue.transport.wait(nanoseconds: nanoseconds)
            while device.queue.transport.alarm != nil {
                if isInterrupted() { return .refused(Self.interrupted) }
                device.turn()
                precondition(!device.queue.transport.isStuck, "a wait with an end has none")
            }
            try collect()
            return .nothing
        case .control(let words):
            let answer = control(words)
            try collect()
            return answer.isOK
                ? Answer(isOK: true, text: answer.text)
                : .refused("disk:ctl: \(answer.text)")
        }
    }

    /// Why the request cannot be sent; nil: it was.
    private mutating func send(_ asked: ScriptTest.Request) -> String? {
        let config = device.plan.config
        let request = SimulatedRequest(
            op: asked.op,
            flags: asked.flags,
            offsetBytes: asked.offsetBytes,
            lengthBytes: asked.lengthBytes
        )
        let name = "\(asked.op.name) of \(asked.lengthBytes) bytes at \(asked.offsetBytes)"
        if let problem = request.problem(on: config, sizeBytes: device.sizeBytes) {
            return "\(name): \(problem)"
        }
        if device.log.isStopped {
            return "\(name): the device was stopped: on_error = \"stop\" and the script raised"
        }
        let number = asked.number
        guard device.queue.transport.send(request, number: number, data: asked.data) else {
            return "\(name): \(config.depth) requests are in flight, as many as depth allows"
        }
        return nil
    }

    private mutating func finish(_ number: UInt64) throws(ScriptError) -> Answer {
        while true {
            try collect()
            if over.contains(number) { return .nothing }
            if isInterrupted() { return .refused(Self.interrupted) }
            device.turn()
            guard device.queue.transport.isStuck else { continue }
            try collect()
            if over.contains(number) { return .nothing }
            return .refused("the request is held for ever; disk:send() does not wait for it")
        }
    }

    /// Tells the test what came of its requests.
    private mutating func collect() throws(ScriptError) {
        for ended in device.queue.transport.takeEnded() {
            var errno: String?
            if case .failed(let number) = ended.outcome { errno = number.name }
            over.insert(ended.number)
            try script.testEnded(
                ScriptTest.Answer(
                    number: ended.number,
                    nanoseconds: ended.nanoseconds,
                    errno: errno,
                    data: ended.data
                )
            )
        }
    }

    // MARK: ctl

    /// As the server of a device answers.
    private mutating func control(_ words: [String]) -> ControlAnswer {
        do throws(AdminRefusal) {
            let request = try AdminRequest(control: words)
            let pending = Dispatcher(SimulatedQueues(queues: [device.control])).begin(request)
            if pending.isAsked { device.turn() }
            guard let answer = pending.ready else {
                preconditionFailure("a turn reads its messages")
            }
            return ControlAnswer(answer)
        } catch { return ControlAnswer(isOK: false, text: error.text) }
    }
}
