import Glibc
import Testing

@testable import UblkScript

/// Another script takes over while requests are under way.
@Suite struct ReloadTests {
    /// The two messages that a server sends, and the queue's answers.
    final class Reload {
        let plan: LoadedScript.Plan
        let prepared = Promise<String?>()
        let adopted = Promise<Bool>()

        /// - Parameters:
        ///   - settings: as the running device has them.
        ///   - turn: how many reloads there were before, with this one.
        init(_ script: String, settings: [String: String] = [:], turn: Int = 1) throws {
            let overrides = settings.merging(["size": "16M", "seed": "1"]) { given, _ in given }
            var plan = try LoadedScript.plan(
                ScriptSource(path: "new.lua", text: script),
                overrides: overrides.map {
                    Setting(key: $0.key, value: .string($0.value), origin: "test")
                }
            )
            plan.bank = turn % 2
            self.plan = plan
        }

        func at(_ microseconds: UInt64) -> [SimulatedTransport.Intervention] {
            let reload = ScriptReload(
                plan: plan,
                counters: RuleCounters(count: plan.ruleCount),
                logFD: -1
            )
            return [.prepare(reload, prepared), .adopt(adopted)].map {
                .init(at: Instant(nanoseconds: microseconds * 1000), message: $0)
            }
        }

        /// nil: it was loaded; otherwise why not.
        var problem: String? { prepared.wait(seconds: 0) ?? "no answer" }
    }

    @Test func `what arrives after a reload is decided by the new script`() throws {
        let reload = try Reload("rule { op = \"read\", error = \"ENODATA\" }")
        let result = try simulate("function read() return fail(\"EIO\") end") {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 2000
            $0.workload.rate = 100_000
            $0.interventions = reload.at(5000)
        }
        #expect(reload.problem == nil && reload.adopted.wait(seconds: 0) == true)
        let outcomes = result.outcomes
        let first = outcomes.prefix { $0 == "EIO" }.count
        #expect(first > 100 && first < 1900)
        #expect(outcomes.dropFirst(first).allSatisfy { $0 == "ENODATA" })
    }

    @Test func `a script that cannot be loaded leaves the one that runs`() throws {
        let reload = try Reload("if counter(\"loads\"):get() > 0 then error(\"not again\") end")
        let result = try simulate("counter(\"loads\"):add(1) rule { error = \"EIO\" }") {
            $0.workload.requests = 1000
            $0.workload.rate = 100_000
            $0.interventions = reload.at(2000)
        }
        #expect(reload.problem?.contains("new.lua:1: not again") == true)
        #expect(reload.adopted.wait(seconds: 0) == false)
        #expect(result.outcomes.allSatisfy { $0 == "EIO" })
    }

    @Test func `what is held or delayed ends as the script meant that decided about it`() throws {
        let reload = try Reload("rule { error = \"EREMOTEIO\" }")
        let released = Promise<QueueAnswer>()
        let result = try simulate(
            """
            rule { op = "read", hang = true, error = "EIO" }
            rule { op = "write", delay = "10ms", error = "ENOSPC" }
            """
        ) {
            $0.workload = Workload([.read(0), .write(0), .write(4096)])
            $0.workload.depth = 2
            $0.interventions =
                reload.at(5000) + [QueueTests.at(20, .release(Release(), released))]
        }
        #expect(reload.problem == nil && released.wait(seconds: 0) == .success(.released(1)))
        // The third is sent when the second has ended.
        #expect(result.outcomes == ["ENOSPC", "EREMOTEIO", "EIO"])
    }

    @Test(arguments: [
        ("function read() return fail(\"ENODATA\") end", "ENODATA"),
        (
            "local b = backing() function read(io, o, l) b:read(o, l) return fail(\"EBADE\") end",
            "EBADE"
        ),
        ("", ""),
    ])
    func `an IO whose handler waits for data is decided by the new script`(
        script: String,
        outcome: String
    ) throws {
        let settings = ["file": "/disk", "depth": "8"]
        let reload = try Reload(script, settings: settings)
        let result = try simulate(
            "local b = backing() function read(io, o, l) b:read(o, l) return fail(\"EIO\") end",
            settings: settings
        ) {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 8
            $0.workload.depth = 8
            // All have arrived, none of the files has answered.
            $0.interventions = reload.at(20)
        }
        #expect(reload.problem == nil)
        #expect(result.outcomes == Array(repeating: outcome, count: 8))
        #expect(result.report.scriptErrors.texts == [])
    }

    @Test func `a write under way heals the set that the new script has, too`() throws {
        let script = """
            rule { op = "read", range = ranges("bad"), error = "EIO" }
            rule { op = "discard", error = "EIO" }
            rule { op = "write", range = ranges("bad"), heal = true }
            """
        let reload = try Reload(script)
        let result = try simulate(
            """
            local bad = ranges("bad"):add(0, 4096)
            rule { op = "write", range = bad, heal = true }
            rule { op = "write", delay = "10ms" }
            rule { op = "read", range = bad, error = "EIO" }
            """
        ) {
            $0.workload = Workload([.read(0), .write(0), .read(0)])
            $0.interventions = reload.at(5000)
        }
        #expect(reload.problem == nil)
        #expect(result.outcomes == ["EIO", "", ""])
    }

    @Test func `objects with a name keep what is in them, and those without are new`() throws {
        let script = """
            local named, own = ranges("named"), ranges()
            log(#named, #own, counter("n"):get())
            rule { op = "read", range = { 8192, 512 }, error = "ENOSPC", once = true }
            rule { op = "read", range = own, error = "EIO" }
            rule { op = "read", range = named, error = "ENODATA" }
            function ctl() return #named .. " " .. #own .. " " .. counter_n:get() end
            counter_n = counter("n")
            """
        let reload = try Reload(script)
        let answer = Promise<QueueAnswer>()
        let first = script + " named:add(0, 512) own:add(4096, 512) counter_n:add(7)"
        let result = try simulate(first) {
            $0.workload = Workload([
                .read(0, 512), .read(4096, 512), .read(8192, 512), .read(8192, 512),
                .write(0), .write(0), .read(0, 512), .read(4096, 512), .read(8192, 512),
                .read(8192, 512),
            ])
            $0.workload.rate = 1000
            $0.interventions = reload.at(5000) + [QueueTests.at(7, .control([], answer))]
        }
        #expect(reload.problem == nil)
        #expect(answer.wait(seconds: 0)?.said.text == "1 0 7")
        #expect(
            result.outcomes == [
                "ENODATA", "EIO", "ENOSPC", "", "", "", "ENODATA", "", "ENOSPC", "",
            ]
        )
    }

    @Test func `the ledger tells of the rules of earlier scripts by their own lines`() throws {
        let reload = try Reload("\n\nrule { name = \"second\", error = \"ENODATA\" }")
        let old = try LoadedScript.plan(
            ScriptSource(path: "test.lua", text: "rule { name = \"first\", error = \"EIO\" }"),
            overrides: [Setting(key: "size", value: .string("1M"), origin: "test")]
        )
        var plan = reload.plan
        plan.firstRule = 1
        let new = ScriptReload(plan: plan, counters: RuleCounters(count: 1), logFD: -1)
        let result = try simulate("rule { name = \"first\", error = \"EIO\" }") {
            $0.workload.requests = 200
            $0.workload.rate = 100_000
            $0.interventions = [.prepare(new, reload.prepared), .adopt(reload.adopted)].map {
                .init(at: Instant(nanoseconds: 500_000), message: $0)
            }
        }
        let text = LedgerText(script: "now.lua", rules: old.rules + plan.rules, seed: 1)
        let lines = result.ledger.read(from: 0, limit: 200).records.map {
            text.line($0, queue: QueueID(0))
        }
        #expect(lines.first?.contains("test.lua:1 first: fail(\"EIO\")") == true)
        #expect(lines.last?.contains("new.lua:3 second: fail(\"ENODATA\")") == true)
    }

    @Test func `the ledger tells of the handlers of each script by its name`() throws {
        let reload = try Reload("function read() return fail(\"EIO\") end")
        var plan = reload.plan
        plan.firstRule = 1
        let new = ScriptReload(plan: plan, counters: RuleCounters(count: 0), logFD: -1)
        let result = try simulate("function read() return fail(\"EIO\") end") {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 200
            $0.workload.rate = 100_000
            $0.interventions = [.prepare(new, reload.prepared), .adopt(reload.adopted)].map {
                .init(at: Instant(nanoseconds: 500_000), message: $0)
            }
        }
        let handlers = RuleLabel(line: 0, name: "", script: "new.lua")
        var text = LedgerText(script: "first.lua", rules: [handlers], seed: 1)
        let records = result.ledger.read(from: 0, limit: 200).records
        var lines = records.map { text.line($0, queue: QueueID(0)) }
        #expect(lines.first?.contains("first.lua read(): fail") == true)
        #expect(lines.last?.contains("new.lua read(): fail") == true)
        text.isJSON = true
        lines = records.map { text.line($0, queue: QueueID(0)) }
        #expect(lines.first?.contains("\"handler\":\"read\",\"script\":\"first.lua\"") == true)
        #expect(lines.last?.contains("\"handler\":\"read\",\"script\":\"new.lua\"") == true)
    }

    @Test func `a script whose backings stand on other lines is loaded`() throws {
        let script = "local b = backing { size = \"1M\" }"
        let reload = try Reload("-- a comment more\n" + script)
        let running = try LoadedScript.plan(
            ScriptSource(path: "test.lua", text: script),
            overrides: [Setting(key: "size", value: .string("16M"), origin: "test")],
            usualSeed: 1
        )
        #expect(reload.plan.config.difference(from: running.config) == nil)
        var plan = reload.plan
        plan.config = plan.config.fitted(to: running.config)
        let new = ScriptReload(plan: plan, counters: RuleCounters(count: 0), logFD: -1)
        _ = try simulate(script) {
            $0.workload.requests = 10
            $0.interventions = [
                .init(at: Instant(nanoseconds: 1000), message: .prepare(new, reload.prepared))
            ]
        }
        #expect(reload.problem == nil)
    }

    @Test func `what the old handler noted about the data is not done by the new one`() throws {
        let settings = ["file": "/disk"]
        let reload = try Reload(
            "function write(io) if io.offset > 0 then io:flip(0, 0) end end",
            settings: settings
        )
        let result = try simulate(
            """
            local b = backing()
            function write(io, offset, length) io:flip(0, 0) b:read(offset, length) end
            """,
            settings: settings
        ) {
            $0.workload = Workload([.write(8192), .write(0)], depth: 2)
            $0.interventions = reload.at(20)
        }
        #expect(reload.problem == nil && result.action("corrupted") == 1)
        #expect(result.report.scriptErrors.texts == [])
    }

    @Test func `a device that is being taken away takes no script`() throws {
        let reload = try Reload("")
        _ = try simulate("") {
            $0.workload.requests = 20
            $0.workload.rate = 1000
            $0.interventions = [QueueTests.at(5, .drain)] + reload.at(8000)
        }
        #expect(reload.problem?.contains("taken away") == true)
    }

    @Test func `timers of the old script end and those of the new one begin at the reload`() throws
    {
        let reload = try Reload(
            "rule { op = \"read\", state = \"new\", error = \"EIO\" } after(\"5ms\", function() state(\"new\") end)"
        )
        let result = try simulate("every(\"1ms\", function() state(\"old\") end)") {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 20
            $0.workload.rate = 1000
            $0.workload.depth = 1
            $0.interventions = reload.at(8000)
        }
        let passed = result.outcomes.prefix { $0.isEmpty }.count
        #expect(passed >= 11 && passed <= 15)
        #expect(result.outcomes.dropFirst(passed).allSatisfy { $0 == "EIO" })
    }

    @Test func `a thousand reloads under load lose no IO, change no byte and use up nothing`()
        throws
    {
        let script = """
            for i = 1, 70 do ranges():add(i << 20, 512) bucket { rate = "1G" } end
            local bad = ranges("bad")
            rule { op = "read", range = { "1M", 4096 }, error = "ENODATA" }
            rule { op = "write", range = bad, heal = true }
            rule { op = "write", delay = "100us", p = 0.3 }
            local file = backing()
            function read(io, offset, length) if offset % 8192 == 0 then file:read(offset, length) end end
            """
        let settings = ["file": "/disk"]
        let reloads = try (1...1000).map { try Reload(script, settings: settings, turn: $0) }
        let result = try simulate(script, settings: settings) {
            $0.workload.requests = 20000
            $0.workload.depth = 32
            $0.interventions = reloads.enumerated().flatMap { index, reload in
                reload.at(UInt64(index) * 10)
            }
        }
        #expect(reloads.allSatisfy { $0.problem == nil })
        #expect(reloads.allSatisfy { $0.adopted.wait(seconds: 0) == true })
        #expect(result.finished.count == 20000)
        #expect(result.report.data?.differing == 0 && result.report.scriptErrors.count == 0)
        #expect(result.outcomes.allSatisfy { $0.isEmpty || $0 == "ENODATA" })
    }

    /// In a process of its own: what other suites and the test runner allocate meanwhile is none of it.
    @Test func `loading a script again and again uses up no memory`() async {
        await #expect(processExitsWith: .success) {
            let grown = try ReloadTests.growthOfManyLoads()
            // A script takes 60 KiB.
            #expect(grown < 8 << 20)
        }
    }

    private static func growthOfManyLoads() throws -> Int {
        let reload = try Reload(
            """
            local own, bad = ranges():add(0, 512), ranges("bad"):add("1M", 512)
            rule { op = "read", range = own, error = "EIO" }
            rule { op = "read", range = { "2M", 512 }, rate = "1M", verdict = fail("EIO") + delay(dist.normal { mean = "1ms", sd = "1us" }) }
            rule { op = "write", range = bad, heal = true, name = "heals" }
            local limit, t = bucket { rate = "1M" }, {}
            for i = 1, 1000 do t[i] = { i } end
            every("1s", function() t = {} end)
            function read(io) if limit:take(io.length) > 0 then return fail("EIO") end end
            """
        )
        let shared = SharedObjects(queues: 2)
        func load(_ rounds: Int) throws -> Int {
            for round in 0..<rounds {
                var plan = reload.plan
                plan.bank = round % 2
                for queue in [QueueID(0), QueueID(1)] {
                    _ = try plan.load(
                        queue: queue,
                        shared: shared,
                        counters: RuleCounters(count: plan.ruleCount),
                        ledger: Ledger(queue: queue, capacity: 8),
                        logFD: -1
                    )
                }
            }
            return residentBytes()
        }
        let before = try load(100)
        return try load(3000) - before
    }

    /// The second number of `/proc/self/statm` is of pages.
    private static func residentBytes() -> Int {
        guard let file = unsafe fopen("/proc/self/statm", "r") else { return 0 }
        defer { unsafe fclose(file) }
        var text = [CChar](repeating: 0, count: 200)
        _ = unsafe fgets(&text, 200, file)
        let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        let fields = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        return (Int(fields[1]) ?? 0) * SystemPage.bytes
    }
}
