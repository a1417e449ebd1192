import CLua
import Testing

@testable import UblkScript

/// The matchers of rules beyond op and range: each never, sometimes and always.
@Suite struct RuleConditionTests {
    /// "x" for each request that got the rule's error, "." for the others.
    private func pattern(
        _ rule: String,
        _ requests: [SimulatedRequest],
        script: String = "",
        settings: [String: String] = [:],
        _ change: (inout Simulation) -> Void = { _ in }
    ) throws -> String {
        let text = "\(script)\nrule { error = \"EIO\", \(rule) }"
        let result = try simulate(text, settings: settings) {
            $0.workload = Workload(requests)
            change(&$0)
        }
        return result.outcomes.map { $0.isEmpty ? "." : "x" }.joined()
    }

    private func refused(_ rule: String) -> String {
        do {
            _ = try pattern(rule, [.read(0)])
            return "accepted"
        } catch { return "\(error)" }
    }

    private static func flagged(_ flags: IOFlags, _ op: IOOp = .write) -> SimulatedRequest {
        SimulatedRequest(op: op, flags: flags, offsetBytes: 0, lengthBytes: 4096)
    }

    private static let ofEachFlag = [
        flagged([]), flagged(SimulatedRequest.metaFlag), flagged(.fua),
        flagged([SimulatedRequest.metaFlag, .fua]), flagged(.noUnmap, .writeZeroes),
        flagged(IOFlags(rawValue: 1 << 9)), flagged(IOFlags(rawValue: 1 << 16)),
    ]

    @Test func `flags must be set, all of them, or unset`() throws {
        let settings = ["cache": "volatile", "fua": "true"]
        func pattern(_ rule: String) throws -> String {
            try self.pattern(rule, Self.ofEachFlag, settings: settings)
        }
        #expect(try pattern("flags = \"meta\"") == ".x.x...")
        #expect(try pattern("flags = \"fua\"") == "..xx...")
        #expect(try pattern("flags = { \"meta\", \"fua\" }") == "...x...")
        #expect(try pattern("flags = { \"meta\", \"!fua\" }") == ".x.....")
        #expect(try pattern("flags = \"!meta\"") == "x.x.xxx")
        #expect(try pattern("flags = \"nounmap\"") == "....x..")
        #expect(try pattern("flags = \"failfast\"") == ".....x.")
        #expect(try pattern("flags = \"swap\"") == "......x")
    }

    @Test func `len is a size or a least and a most`() throws {
        let requests: [SimulatedRequest] = [
            .read(0, 512), .read(0, 4096), .read(0, 8192), .read(0, 65536),
        ]
        #expect(try pattern("len = \"4K\"", requests) == ".x..")
        #expect(try pattern("len = { \"4K\", \"8K\" }", requests) == ".xx.")
        #expect(try pattern("len = { 0, \"1M\" }", requests) == "xxxx")
        #expect(try pattern("len = \"1K\"", requests) == "....")
    }

    @Test func `align is of the offset`() throws {
        let requests: [SimulatedRequest] = [.read(0), .read(512), .read(4096), .read(65536)]
        #expect(try pattern("align = \"64K\"", requests) == "x..x")
        #expect(try pattern("align = \"4K\"", requests) == "x.xx")
        #expect(try pattern("align = 512", requests) == "xxxx")
    }

    @Test func `queue and tag are those of the IO`() throws {
        let requests = [SimulatedRequest](repeating: .read(0), count: 3)
        #expect(try pattern("queue = 0", requests) == "xxx")
        #expect(try pattern("queue = 1", requests) == "...")
        #expect(try pattern("tag = 0", requests) == "xxx")
        #expect(try pattern("tag = 1", requests) == "...")
    }

    @Test func `depth counts the IOs in flight, this one included`() throws {
        func errors(_ depth: Int) throws -> Int {
            try simulate(
                "rule { delay = \"1s\" }\nrule { error = \"EIO\", depth = \(depth) }"
            ) {
                $0.workload.requests = 8
                $0.workload.depth = 8
            }.outcomes.count { !$0.isEmpty }
        }
        #expect(try errors(1) == 8)
        #expect(try errors(3) == 6)
        #expect(try errors(8) == 1)
        #expect(try errors(9) == 0)
    }

    // MARK: Time

    /// Reads that come about every 10 ms.
    private func timed(_ rule: String, count: Int = 10) throws -> String {
        try pattern(
            rule,
            Array(repeating: .read(0), count: count),
            script: "rule { delay = \"10ms\" }"
        )
    }

    @Test func `a window is a stretch of the device's time`() throws {
        #expect(try timed("window = { from = \"25ms\", to = \"55ms\" }") == "...xxx....")
        #expect(try timed("window = { to = \"25ms\" }") == "xxx.......")
        #expect(try timed("window = { from = \"75ms\" }") == "........xx")
        #expect(try timed("window = { from = \"1h\" }") == "..........")
    }

    @Test func `a window with a period comes again`() throws {
        #expect(
            try timed("window = { from = \"25ms\", to = \"40ms\", period = \"40ms\" }")
                == "...x...x.."
        )
        #expect(try timed("window = { from = \"0s\", period = \"40ms\" }") == "xxxxxxxxxx")
    }

    @Test func `after and before a time`() throws {
        #expect(try timed("after = \"45ms\"") == ".....xxxxx")
        #expect(try timed("before = \"45ms\"") == "xxxxx.....")
        #expect(try timed("after = 0, before = { time = \"1h\" }") == "xxxxxxxxxx")
    }

    @Test func `time starts when faults are armed`() throws {
        let counters = RuleCounters(count: 0)
        counters.startClock(at: Instant(nanoseconds: 1_000_000))
        #expect(counters.deviceTime(Instant(nanoseconds: 1_000_500)) == 500)
        #expect(counters.deviceTime(Instant(nanoseconds: 999)) == 0)
    }

    // MARK: Counts

    @Test func `after and before a number of IOs or bytes`() throws {
        let requests = [SimulatedRequest](repeating: .read(0), count: 6)
        #expect(try pattern("after = { ops = 0 }", requests) == "xxxxxx")
        #expect(try pattern("after = { ops = 4 }", requests) == "....xx")
        #expect(try pattern("after = { ops = 6 }", requests) == "......")
        #expect(try pattern("before = { ops = 4 }", requests) == "xxxx..")
        #expect(try pattern("after = { bytes = \"8K\" }", requests) == "..xxxx")
        #expect(try pattern("before = { bytes = \"8K\" }", requests) == "xx....")
    }

    @Test func `skip lets the first fitting IOs go`() throws {
        let requests = [SimulatedRequest](repeating: .read(0), count: 6)
        #expect(try pattern("skip = 1", requests) == ".xxxxx")
        #expect(try pattern("skip = 6", requests) == "......")
        #expect(try pattern("skip = 1, every = 2", requests) == "..x.x.")
        #expect(try pattern("skip = 2, nth = 1", requests) == "..x...")
        #expect(try pattern("skip = 2, times = 2", requests) == "..xx..")
    }

    @Test func `once takes what it acted on out of the range`() throws {
        let requests: [SimulatedRequest] = [
            .read(0), .read(0), .read(4096), .read(4096), .read(8192),
        ]
        #expect(try pattern("range = { 0, \"8K\" }, once = true", requests) == "x.x..")
    }

    // MARK: Marks and the state

    @Test func `a mark starts and ends a rule`() throws {
        let script = """
            rule { op = "write", mark = "written" }
            function discard() mark("over") end
            """
        let requests: [SimulatedRequest] = [
            .read(0), .write(0), .read(0), .read(0), .discard(0), .read(0),
        ]
        #expect(
            try pattern("op = \"read\", after = { mark = \"written\" }", requests, script: script)
                == "..xx.x"
        )
        #expect(
            try pattern(
                "op = \"read\", after = { mark = \"written\" }, before = { mark = \"over\" }",
                requests,
                script: script
            ) == "..xx.."
        )
        #expect(try pattern("after = { mark = \"never\" }", requests, script: script) == "......")
    }

    @Test func `rules and handlers share a state machine`() throws {
        let script = """
            state("good")
            rule { op = "write", state = "good", set_state = "bad" }
            function discard() if state() == "bad" then state("good") end end
            """
        let requests: [SimulatedRequest] = [
            .read(0), .write(0), .read(0), .write(0), .discard(0), .read(0), .write(0), .read(0),
        ]
        #expect(
            try pattern("op = \"read\", state = \"bad\"", requests, script: script) == "..x....x"
        )
    }

    @Test func `there is no state until one is set`() throws {
        #expect(try ScriptHarness.value(of: "tostring(state())") == "nil")
        #expect(try ScriptHarness.value(of: "state('a') .. state()") == "aa")
    }

    @Test func `a counter of one name is one number`() throws {
        let harness = try ScriptHarness(
            """
            local a, b = counter("n"), counter("n")
            function ctl() a:add() b:add(4) a:set(a:get() * 10) return b:get(), tostring(a) end
            """
        )
        #expect(try harness.ctl() == "50\tcounter(\"n\") 50")
        #expect(try harness.ctl() == "550\tcounter(\"n\") 550")
    }

    // MARK: Content

    @Test func `content is looked at in what a write brings`() throws {
        func holds(_ rule: String, _ data: [UInt8]) throws -> Bool {
            let source = ScriptSource(
                path: "t.lua",
                text: "rule { op = \"write\", delay = 1, \(rule) }"
            )
            let script = try Script(source, shared: SharedObjects(queues: 1), options: .init())
            let rule = try script.declarations().rules[0]
            var io = us_io()
            io.length = UInt64(data.count)
            return unsafe data.withUnsafeBytes {
                unsafe rule.conditions.hold(io, RuleMoment(data: $0.baseAddress))
            }
        }
        #expect(try holds("content = \"zero\"", [0, 0, 0]))
        #expect(try !holds("content = \"zero\"", [0, 0, 1]))
        #expect(try holds("content = { hex = \"53ef\" }", [0x53, 0xef, 1]))
        #expect(try holds("content = { at = 1, hex = \"53EF\" }", [0, 0x53, 0xef]))
        #expect(try !holds("content = { at = 2, hex = \"53ef\" }", [0, 0x53, 0xef]))
        #expect(try !holds("content = { at = 1, hex = \"53ef\" }", [0, 0x53, 0xee]))
        let long: [UInt8] = Array(1...16)
        #expect(try holds("content = { hex = \"0102030405060708090a0b0c0d0e0f10\" }", long))
        #expect(try !holds("content = { hex = \"0102030405060708090a0b0c0d0e0f11\" }", long))
    }

    // MARK: Refusals

    @Test(arguments: [
        ("flags = \"mata\"", "flags = \"mata\""), ("flags = { \"meta\", \"!meta\" }", "both"),
        ("len = \"4Q\"", "len = \"4Q\""), ("len = { \"8K\", \"4K\" }", "in that order"),
        ("align = 0", "align = 0"), ("queue = 4096", "4095"), ("tag = -1", "tag = -1"),
        ("depth = 0", "1 to 4096"), ("window = \"5s\"", "window"),
        ("window = { from = \"5s\", to = \"4s\" }", "from < to"),
        ("window = { to = \"5s\", period = \"4s\" }", "within the period"),
        ("window = { form = \"5s\" }", "window"), ("after = { op = 3 }", "ops, bytes or mark"),
        ("after = { ops = -1 }", "ops = -1"), ("state = \"\"", "state = \"\""),
        ("content = \"zero\"", "op = \"write\""),
        ("op = \"write\", content = { hex = \"5\" }", "1 to 16 bytes"),
        ("op = \"write\", content = { at = 1 }", "1 to 16 bytes"), ("once = true", "range"),
        ("skip = 0", "skip = 0"),
        ("name = \"a b\"", "name = \"a b\" (byte 2 is a blank): a name of 1 to 64 bytes"),
        ("name = \"\\t\\27 \"", "(byte 1 is a control character)"),
        ("name = \"a\u{9b}\"", "(byte 2 is a control character)"),
        ("name = (\"x\"):rep(65)", "(it has 65 bytes): a name of 1 to 64 bytes"),
        ("name = \"12\"", "a number means the rule of that line"),
        ("set_state = 3", "set_state = 3"),
    ])
    func `what is no condition is refused with the line and what is accepted`(
        rule: String,
        part: String
    ) {
        let text = refused(rule)
        #expect(text.hasPrefix("test.lua:2: ") && text.contains(part), "\(rule): \(text)")
    }
}

/// `trigger`: a rule that acts while a file is there.
@Suite struct RuleTriggerTests {
    private func failed(_ path: String) throws -> Int {
        let script = "rule { op = \"read\", trigger = \"\(path)\", error = \"EIO\" }"
        let result = try simulate(script) {
            $0.workload = Workload(Array(repeating: .read(0), count: 10))
        }
        return result.outcomes.count { $0 == "EIO" }
    }

    @Test func `a rule acts with its file and not without`() throws {
        #expect(try failed("/nonexistent/file") == 0)
        #expect(try failed("/proc/self/status") == 10)
    }

    @Test func `a trigger and ctl hold a rule each by itself`() {
        let counters = RuleCounters(count: 1)
        counters.turn(0, on: false)
        counters.turn(0, on: false, .noTrigger)
        counters.turn(0, on: true, .noTrigger)
        #expect(!counters.isOn(0))
        counters.turn(0, on: true)
        #expect(counters.isOn(0))
    }

    @Test func `a relative path is one in the folder of the command`() throws {
        let depth = ScriptSource.workingDirectory.split(separator: "/").count
        let up = String(repeating: "../", count: depth)
        #expect(try failed("\(up)proc/self/status") == 10)
        #expect(try failed("\(up)nonexistent/file") == 0)
    }
}
