import CLua
import SystemPackage
import Testing

@testable import UblkScript

/// Several queues of one device, simulated: what they share, and what each does for itself.
@Suite struct SeveralQueuesTests {
    /// Runs `script` on two queues, or as many as it says.
    private func run(
        _ script: String,
        seed: UInt64 = 1,
        settings: [String: String] = [:],
        _ change: (inout Simulation) -> Void = { _ in }
    ) throws -> Simulation.Result {
        let settings = settings.merging(["queues": "2"]) { given, _ in given }
        return try simulate(script, seed: seed, settings: settings, change)
    }

    private static func at(_ microseconds: UInt64, _ queue: Int, _ message: QueueMessage)
        -> SimulatedTransport.Intervention
    {
        .init(at: Instant(nanoseconds: microseconds * 1000), message: message, queue: queue)
    }

    // MARK: The simulation

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `data survives on several queues, and each of them serves`(seed: UInt64) throws {
        for settings in [["queues": "3", "cache": "volatile"], ["file": "/never-made"]] {
            let result = try run("", seed: seed, settings: settings) {
                $0.workload.requests = 10_000
                $0.workload.blockBytesMax = 8192
                $0.readsBack = true
            }
            let served = result.queues.map(\.counters.total)
            #expect(served.reduce(0, +) >= 10_000 && served.allSatisfy { $0 > 2000 }, "\(served)")
            #expect(result.report.requestCount == 10_000 && result.report.errors == [])
            #expect(result.report.data?.differing == 0 && result.report.readBack?.differing == 0)
            #expect(result.report.queues == result.queues.count)
        }
    }

    @Test func `a run of several queues can be repeated, and another seed gives another one`()
        throws
    {
        func run(_ seed: UInt64) throws -> Simulation.Result {
            try self.run(SimulationTests.faulty, seed: seed, settings: ["cache": "volatile"])
        }
        let (first, again, other) = (try run(7), try run(7), try run(8))
        #expect(first.report == again.report && first.finished == again.finished)
        #expect(first.report != other.report && first.finished != other.finished)
    }

    @Test func `several queues are told of, one is not`() throws {
        let two = try run("") { $0.workload.requests = 10 }
        #expect(SimulationText(two.report).text.contains("16M memory, 2 queues, depth 32\n"))
        #expect(two.report.queues == 2)
        let one = try simulate("") { $0.workload.requests = 10 }
        #expect(SimulationText(one.report).text.contains("16M memory, depth 32\n"))
        #expect(one.report.queues == nil)
    }

    @Test func `as many requests as all queues have tags can be in flight`() throws {
        let result = try run("rule { hang = true }", settings: ["depth": "4"]) {
            $0.workload.depth = 100
        }
        #expect(result.report.end == .held && result.report.heldForEver == 8)
        #expect(result.report.depth == 8)
        // Each queue was drained, and nothing was lost.
        #expect(result.finished.count == 8 && result.outcomes.allSatisfy { $0 == "EIO" })
    }

    @Test func `a script that raises on one queue stops all`() throws {
        let result = try run(
            """
            rule { op = "write", times = 8, hang = true }
            local served = counter("served")
            function read() served:add(1) if served:get() == 50 then error("enough") end end
            """,
            settings: ["on_error": "stop"]
        ) {
            $0.workload.weights = [.read: 8, .write: 1]
            $0.workload.requests = 100_000
        }
        #expect(result.report.end == .stopped && result.report.scriptErrors.count == 1)
        #expect(result.report.requestCount < 200)
        // Each let go of what it held.
        #expect(result.queues.allSatisfy { $0.counters[.hung] > 0 })
        #expect(result.report.heldForEver == 0)
    }

    // MARK: Counts and sets

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func `counts of rules are those of all queues`(seed: UInt64) throws {
        let result = try run(
            """
            rule { op = "read", nth = 100, error = "ENODATA" }
            rule { op = "read", every = 50, times = 7, error = "ENOLINK" }
            """,
            seed: seed
        ) {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 2000
        }
        let failed = result.report.errors.reduce(into: [:]) { $0[$1.name] = $1.count }
        #expect(failed == ["ENODATA": 1, "ENOLINK": 7], "seed \(seed)")
        #expect(result.report.rules.map(\.acted) == [1, 7])
        #expect(result.queues.allSatisfy { $0.counters.total > 500 })
    }

    /// Which of two queues edits a set, and which one looks at it, is the seed's.
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `what one queue takes out of a set is gone for the others`(seed: UInt64) throws {
        let result = try run(
            """
            local bad = ranges("bad")
            for i = 0, 255 do bad:add(i * 8 * KiB, 4 * KiB) end
            rule { op = "read", range = bad, error = "ENODATA" }
            rule { op = "write", range = bad, heal = true }
            """,
            seed: seed,
            settings: ["size": "2M"]
        ) {
            $0.workload.weights = [.read: 1, .write: 1]
            $0.workload.requests = 3000
        }
        // By block: when the first write of it was over.
        var healed: [UInt64: Instant] = [:]
        for request in result.finished where request.request.op == .write {
            if healed[request.request.offsetBytes] == nil {
                healed[request.request.offsetBytes] = request.endedAt
            }
        }
        var failed = 0
        for request in result.finished where request.request.op == .read {
            let offset = request.request.offsetBytes
            let isBad = request.outcome == .failed(.noData)
            failed += isBad ? 1 : 0
            if offset % 8192 != 0 { #expect(!isBad) }
            if let time = healed[offset], time < request.sentAt {
                #expect(!isBad, "seed \(seed): \(offset) was healed")
            }
        }
        #expect(failed > 50 && healed.count > 200)
    }

    @Test(arguments: [
        ("local d = dict(\"d\") function read() if d:add(\"n\") == 900 then return fail(\"EIO\") end end"),
        ("local c = counter(\"n\") function read() c:add(1) if c:get() == 900 then return fail(\"EIO\") end end"),
    ])
    func `a table and a counter with a name are those of all queues`(script: String) throws {
        let result = try run(script) {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 1000
        }
        #expect(result.report.scriptErrors.texts == [])
        // More than one queue alone comes to.
        #expect(result.outcomes.filter { $0 == "EIO" }.count == 1)
        #expect(result.queues.allSatisfy { (200..<800).contains($0.counters.total) })
    }

    // MARK: What somebody asks of all of them

    @Test func `a release lets go on each queue, and only there`() throws {
        let (first, second) = (Promise<QueueAnswer>(), Promise<QueueAnswer>())
        let result = try run("rule { op = \"read\", hang = true }") {
            $0.workload = Workload((0..<8).map { .read($0 * 4096) }, depth: 8)
            $0.interventions = [
                Self.at(1000, 0, .release(Release(), first)),
                Self.at(2000, 1, .release(Release(), second)),
            ]
        }
        #expect(first.wait(seconds: 0) == .success(.released(4)))
        #expect(second.wait(seconds: 0) == .success(.released(4)))
        let ends = result.finished.map { $0.endedAt.nanoseconds / 1_000_000 }
        #expect(ends.prefix(4).allSatisfy { $0 == 1 } && ends.suffix(4).allSatisfy { $0 == 2 })
    }

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func `pause and resume in a workload are heard by each queue`(seed: UInt64) throws {
        let result = try run("", seed: seed) {
            $0.workload = Workload((0..<6).map { .write($0 * 4096) }, depth: 8)
            func say(_ word: String) -> WorkloadStep? {
                try? WorkloadStep(["ctl", word], origin: "w:1", start: .soon)
            }
            func wait() -> WorkloadStep? {
                try? WorkloadStep(["wait", "1s"], origin: "w:2", start: .soon)
            }
            $0.workload.steps = [
                0: [say("pause")].compactMap(\.self),
                6: [wait(), say("resume")].compactMap(\.self),
            ]
        }
        #expect(result.finished.count == 6, "seed \(seed)")
        // Not let go by a drain, as what nobody resumes.
        #expect(result.report.end == .finished, "seed \(seed)")
        #expect(result.finished.allSatisfy { $0.nanoseconds > 900_000_000 }, "seed \(seed)")
    }

    // MARK: Another script

    private func reloads(
        _ reload: ReloadTests.Reload,
        prepare: [UInt64],
        adopt: [UInt64]
    ) -> (
        messages: [SimulatedTransport.Intervention], problems: [Promise<String?>],
        adopted: [Promise<Bool>]
    ) {
        let script = ScriptReload(
            plan: reload.plan,
            counters: RuleCounters(count: reload.plan.ruleCount),
            logFD: -1
        )
        let problems = prepare.map { _ in Promise<String?>() }
        let adopted = adopt.map { _ in Promise<Bool>() }
        let messages =
            prepare.indices.map { Self.at(prepare[$0], $0, .prepare(script, problems[$0])) }
            + adopt.indices.map { Self.at(adopt[$0], $0, .adopt(adopted[$0])) }
        return (messages, problems, adopted)
    }

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func `queues that change over one after the other decide by one script or the other`(
        seed: UInt64
    ) throws {
        let reload = try ReloadTests.Reload(
            "rule { op = \"read\", error = \"ENODATA\" }",
            settings: ["queues": "2"]
        )
        let turn = reloads(reload, prepare: [4000, 5000], adopt: [8000, 9000])
        let result = try run("rule { op = \"read\", error = \"EIO\" }", seed: seed) {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 2000
            $0.workload.rate = 100_000
            $0.interventions = turn.messages
        }
        #expect(turn.problems.allSatisfy { ($0.wait(seconds: 0) ?? "no answer") == nil })
        #expect(turn.adopted.allSatisfy { $0.wait(seconds: 0) == true })
        #expect(Set(result.outcomes) == ["EIO", "ENODATA"])
        for request in result.finished {
            let name = if case .failed(let errno) = request.outcome { errno.name } else { "" }
            if request.sentAt.nanoseconds < 8_000_000 { #expect(name == "EIO") }
            if request.sentAt.nanoseconds > 9_010_000 { #expect(name == "ENODATA") }
        }
        let between = result.finished.filter {
            (8_010_000..<9_000_000).contains($0.sentAt.nanoseconds)
        }
        let outcomes = between.map(\.outcome)
        #expect(
            outcomes.contains(.failed(.ioError)) && outcomes.contains(.failed(.noData)),
            "each queue its own script"
        )
    }

    @Test func `a script that one queue cannot load is taken on by none`() throws {
        let reload = try ReloadTests.Reload(
            "local c = counter(\"loads\") c:add(1) if c:get() > 3 then error(\"not again\") end",
            settings: ["queues": "2"]
        )
        var turn = reloads(reload, prepare: [1000, 2000], adopt: [4000, 4000])
        // What a server sends then.
        turn.messages += [Self.at(3000, 0, .discard), Self.at(3000, 1, .discard)]
        let result = try run("counter(\"loads\"):add(1) rule { error = \"EIO\" }") {
            $0.workload.requests = 1000
            $0.workload.rate = 100_000
            $0.interventions = turn.messages
        }
        #expect((turn.problems[0].wait(seconds: 0) ?? "no answer") == nil)
        #expect(turn.problems[1].wait(seconds: 0)??.contains("not again") == true)
        #expect(turn.adopted.allSatisfy { $0.wait(seconds: 0) == false })
        #expect(result.outcomes.allSatisfy { $0 == "EIO" })
    }
}
