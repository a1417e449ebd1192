import CLua
import Testing

@testable import UblkScript

/// One `rule{}` from settings to matchers and actions, and every refusal.
@Suite struct RuleTests {
    private func rule(_ settings: [(String, Setting.Value)]) throws(ConfigError) -> Rule {
        try Rule(
            settings.map { .test($0, $1) },
            line: 3,
            origin: "test.lua:3",
            names: RuleNames(shared: SharedObjects(queues: 1), rule: 1),
            makeRanges: { offset, length in UInt(offset + length) }
        )
    }

    private func refused(_ settings: [(String, Setting.Value)]) -> String? {
        refusal { () throws(ConfigError) in _ = try rule(settings) }?.description
    }

    @Test func `a rule without matchers fits every op everywhere, always`() throws {
        let rule = try rule([("error", "EIO")])
        #expect(rule.line == 3)
        #expect(rule.ops == IOOp.allBits)
        let hasRange = rule.range != nil
        #expect(!hasRange)
        #expect(rule.nth == 0)
        #expect(rule.every == 0)
        #expect(rule.times == 0)
        #expect(rule.chance == nil)
        #expect(!rule.heals)
        #expect(rule.isTerminal)
    }

    @Test func `op is a name or a list of names`() throws {
        for op in IOOp.allCases {
            #expect(try rule([("op", .string(op.name)), ("delay", "1ms")]).ops == op.bit)
        }
        let several = try rule([("op", .list(["read", "flush"])), ("error", "EIO")])
        #expect(several.ops == IOOp.read.bit | IOOp.flush.bit)
    }

    @Test(arguments: [
        "trim" as Setting.Value, "", 1, true, .list([]), .list(["read", "trim"]), .list([1]),
        .table(["a": "read"]),
    ])
    func `anything else is no op`(value: Setting.Value) {
        let text = refused([("op", value), ("error", "EIO")])
        #expect(text?.hasPrefix("test.lua:3: op = \(Setting.describe(value)): ") == true)
        #expect(text?.contains("op") == true)
    }

    @Test func `a range is a ranges object or a pair`() throws {
        let object = try rule([("range", .ranges(0x40)), ("error", "EIO")])
        #expect(object.range?.address == 0x40)
        let pair = try rule([("range", .list(["1M", 4096])), ("error", "EIO")])
        let sum: UInt = (1 << 20) + 4096
        #expect(pair.range?.address == sum)
    }

    @Test func `a range's offset and length have limits`() throws {
        let most = Int64(DeviceConfig.sizeMax)
        _ = try rule([("range", .list([0, 1])), ("error", "EIO")])
        _ = try rule([("range", .list([.integer(most), .integer(most)])), ("error", "EIO")])
        let wrong: [Setting.Value] = [
            .list([0, 0]), .list([-1, 1]), .list([.integer(most + 1), 1]),
            .list([0, .integer(most + 1)]), .list([0]), .list([0, 1, 2]), .list([]), "1M", 7,
            .list(["x", 1]), .table(["offset": 0, "length": 1]),
        ]
        for value in wrong {
            let text = refused([("range", value), ("error", "EIO")])
            #expect(text?.hasPrefix("test.lua:3: range = ") == true, "\(value)")
        }
    }

    @Test func `a range that cannot be made is an error, not a rule for everywhere`() {
        let problem = refusal { () throws(ConfigError) in
            _ = try Rule(
                [.test("range", .list([0, 1])), .test("error", "EIO")],
                line: 1,
                origin: "test.lua:1",
                names: RuleNames(shared: SharedObjects(queues: 1), rule: 1),
                makeRanges: { _, _ in nil }
            )
        }
        #expect(problem?.text.contains("out of memory") == true)
    }

    @Test func `p is a chance of 64 bits`() throws {
        #expect(try rule([("p", 0), ("error", "EIO")]).chance == 0)
        #expect(try rule([("p", 0.5), ("error", "EIO")]).chance == 1 << 63)
        #expect(try rule([("p", 1), ("error", "EIO")]).chance == nil, "always")
        #expect(try rule([("p", "0.25"), ("error", "EIO")]).chance == 1 << 62)
        for value in [-0.1, 1.1, .number(.nan), .number(.infinity), "often", true]
            as [Setting.Value]
        {
            let text = refused([("p", value), ("error", "EIO")])
            #expect(text?.contains("a number from 0.0 to 1.0 is expected") == true, "\(value)")
        }
    }

    @Test(arguments: ["every", "nth", "times"])
    func `a count is a whole number from 1`(key: String) throws {
        for value in [1, .integer(.max)] as [Setting.Value] {
            #expect(refused([(key, value), ("error", "EIO")]) == nil)
        }
        for value in [0, -1, 1.5, "x", true] as [Setting.Value] {
            let text = refused([(key, value), ("error", "EIO")])
            #expect(text?.contains("\(key) = \(Setting.describe(value))") == true)
            #expect(text?.contains("a whole number from 1 to") == true)
        }
        let rule = try rule([("every", 2), ("nth", 4), ("times", 4), ("error", "EIO")])
        #expect(rule.every == 2)
        #expect(rule.nth == 4)
        #expect(rule.times == 4)
    }

    @Test func `an error is an errno of the block layer`() throws {
        for name in Quantity.blockErrnoNames {
            let rule = try rule([("error", .string(name))])
            #expect(rule.decision.outcome == UInt8(US_OUTCOME_FAIL.rawValue))
            #expect(rule.decision.error == Quantity.blockErrno(named: name))
        }
        for value in ["EPERM", "eio", "", 5, true] as [Setting.Value] {
            let text = refused([("error", value)])
            #expect(text?.contains("error = \(Setting.describe(value))") == true)
            #expect(text?.contains("ENODATA") == true, "the names that would do")
        }
    }

    @Test func `a delay alone lets the search go on`() throws {
        let rule = try rule([("delay", "50ms")])
        #expect(rule.decision.delay_ns == 50_000_000)
        #expect(!rule.isTerminal)
        let year = Int64(Rule.timeMax)
        #expect(refused([("delay", .integer(year))]) == nil)
        for value in [.integer(year + 1), -1, "soon", true] as [Setting.Value] {
            #expect(refused([("delay", value)])?.contains("a time from 0ns to") == true)
        }
    }

    @Test func `drop and zero are outcomes`() throws {
        let drop = try rule([("op", "write"), ("drop", true)])
        #expect(drop.decision.outcome == UInt8(US_OUTCOME_DROP.rawValue))
        let zero = try rule([("op", .list(["read", "write"])), ("zero", true)])
        #expect(zero.decision.outcome == UInt8(US_OUTCOME_ZERO.rawValue))
        let neither = try rule([("drop", false), ("zero", false), ("error", "EIO")])
        #expect(neither.decision.outcome == UInt8(US_OUTCOME_FAIL.rawValue))
    }

    @Test func `a hang is for ever or for a time`() throws {
        let forEver = try rule([("hang", true)])
        #expect(forEver.decision.hangs == 1)
        #expect(forEver.decision.hang_ns == 0)
        #expect(forEver.isTerminal)
        let minute = try rule([("hang", "1min")])
        #expect(minute.decision.hangs == 1)
        #expect(minute.decision.hang_ns == 60_000_000_000)
        let failing = try rule([("hang", "1s"), ("error", "ETIMEDOUT")])
        #expect(failing.decision.hangs == 1)
        #expect(failing.decision.outcome == UInt8(US_OUTCOME_FAIL.rawValue))
        for value in [0, "soon", .integer(Int64(Rule.timeMax) + 1)] as [Setting.Value] {
            #expect(refused([("hang", value)])?.contains("a time from 1ns to") == true)
        }
    }

    @Test func `a rule has one outcome`() {
        for pair in [("error", "drop"), ("drop", "zero"), ("zero", "error")] {
            func value(_ key: String) -> Setting.Value { key == "error" ? "EIO" : true }
            let text = refused([
                ("op", "write"), (pair.0, value(pair.0)), (pair.1, value(pair.1)),
            ])
            #expect(text?.contains("exclude each other") == true, "\(pair)")
        }
    }

    @Test func `healing needs a range and an op that writes`() throws {
        let write = try rule([("op", "write"), ("range", .ranges(8)), ("heal", true)])
        #expect(write.heals)
        #expect(!write.isTerminal)
        let all = Setting.Value.list(["write", "discard", "write_zeroes"])
        #expect(refused([("op", all), ("range", .ranges(8)), ("heal", true)]) == nil)
        #expect(
            refused([("op", "write"), ("heal", true)])?.contains("heal needs the range") == true
        )
        for op in ["read", "flush"] as [Setting.Value] {
            let text = refused([("op", op), ("range", .ranges(8)), ("heal", true)])
            #expect(text?.contains("heal works on") == true)
        }
        #expect(
            refused([("range", .ranges(8)), ("heal", true)])?.contains("heal works on") == true
        )
    }

    @Test func `an op that cannot do the action is refused`() {
        let drop = "drop() cannot apply to a read: add op = \"write\" or"
        #expect(refused([("drop", true)])?.contains(drop) == true)
        #expect(refused([("op", "read"), ("drop", true)])?.contains(drop) == true)
        let zero = "zero() cannot apply to a discard: add op = \"read\" or"
        #expect(refused([("op", "discard"), ("zero", true)])?.contains(zero) == true)
        #expect(refused([("zero", true)])?.contains("zero() cannot apply to a flush") == true)
        let text = refused([("op", "flush"), ("range", .ranges(8)), ("error", "EIO")])
        #expect(text?.contains("a flush has no range") == true)
    }

    @Test func `a rule that does nothing is refused`() {
        for settings: [(String, Setting.Value)] in [
            [], [("op", "read")], [("delay", 0)], [("hang", false)], [("heal", false)],
            [("op", "write"), ("drop", false)],
        ] {
            #expect(refused(settings)?.contains("the rule does nothing") == true, "\(settings)")
        }
    }

    @Test func `an unknown key is refused with the list of keys`() {
        let text = refused([("error", "EIO"), ("probability", 0.5)])
        #expect(text?.contains("test.lua:3: rule has no key \"probability\"") == true)
        for key in Rule.keys { #expect(text?.contains(key) == true) }
    }

    @Test func `a switch takes true and false only`() {
        for key in ["drop", "zero", "heal"] {
            let text = refused([("op", "write"), (key, 1)])
            #expect(text?.contains("\(key) = 1: true or false is expected") == true)
        }
    }
}
