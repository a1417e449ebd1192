import Testing

@testable import UblkScript

/// Each action of rules, and each verdict of handlers, never, sometimes and always: six IOs of which none, every
/// second and all are meant, and what the application sees of each.
@Suite struct ActionTripleTests {
    struct Action: Sendable, CustomTestStringConvertible {
        /// Of `rule{}`, or of `verdict =`.
        let keys: [String]
        /// What the rule says.
        let rule: String
        /// What a handler returns for the same; nil: rules only.
        var verdict: String?
        var op = "read"
        /// Before the rule.
        var setUp = ""
        /// Lua: does one IO and says whether it was done to it.
        let isSeen: String
        var testDescription: String { rule }
    }

    private static let differs = """
        local write = disk:write(0, data) return disk:read(0, "4K").data ~= write.data
        """
    private static let bad = """
        local bad = ranges("bad")
        rule { op = "read", range = bad, error = "ENODATA" }

        """

    private static let isGoodAfterWrite = """
        disk:ctl("ranges", "bad", "add", 0, 4096)
        disk:write(0, "4K")
        return disk:read(0, "4K").errno == nil
        """

    private static let simple: [Action] = [
        Action(
            keys: ["error"],
            rule: "error = \"EREMOTEIO\"",
            verdict: "fail(\"EREMOTEIO\")",
            isSeen: "return disk:read(0, \"4K\").errno == \"EREMOTEIO\""
        ),
        Action(
            keys: ["delay"],
            rule: "delay = \"3ms\"",
            verdict: "delay(\"3ms\")",
            isSeen: "return disk:read(0, \"4K\").time >= 3 * ms"
        ),
        Action(
            keys: ["delay", "correlation"],
            rule: "delay = dist.uniform { min = \"3ms\", max = \"4ms\" }, correlation = 0.5",
            verdict: "delay(dist_of_3ms)",
            setUp: "local dist_of_3ms = dist.uniform { min = \"3ms\", max = \"4ms\" }",
            isSeen: "return disk:read(0, \"4K\").time >= 3 * ms"
        ),
        Action(
            keys: ["service"],
            rule: "service = \"3ms\"",
            isSeen: "return disk:read(0, \"4K\").time >= 3 * ms"
        ),
        Action(
            keys: ["rate", "cost"],
            rule: "rate = bucket { rate = \"4M\", burst = 1 }, cost = 3",
            isSeen: "return disk:read(0, \"4K\").time > 2900 * us"
        ),
        Action(
            keys: ["stall"],
            rule: "stall = \"3ms\"",
            isSeen: "return disk:read(0, \"4K\").time >= 3 * ms"
        ),
        Action(
            keys: ["hang"],
            rule: "hang = true",
            verdict: "hang()",
            isSeen: """
                local read = disk:send("read", 0, "4K")
                disk:wait("1h")
                if not read.done then disk:ctl("release") return true end
                """
        ),
        Action(
            keys: ["drop"],
            rule: "drop = true",
            verdict: "drop()",
            op: "write",
            isSeen: "local w = disk:write(0, \"4K\") return disk:read(0, \"4K\").data ~= w.data"
        ),
        Action(
            keys: ["zero"],
            rule: "zero = true",
            verdict: "zero()",
            isSeen: "disk:write(0, data) return disk:read(0, \"4K\").data == (\"\\0\"):rep(4096)"
        ),
        Action(
            keys: ["log"],
            rule: "log = true",
            isSeen: """
                local function acted() return disk:ctl("rule"):match("acted (%d+)") end
                local before = acted()
                disk:read(0, "4K")
                return acted() ~= before
                """
        ),
    ]

    private static let states: [Action] = [
        Action(
            keys: ["heal"],
            rule: "range = bad, heal = true",
            op: "write",
            setUp: bad,
            isSeen: isGoodAfterWrite
        ),
        Action(
            keys: ["once"],
            rule: "range = bad, once = true",
            op: "write",
            setUp: bad,
            isSeen: isGoodAfterWrite
        ),
        Action(
            keys: ["mark"],
            rule: "mark = \"m\"",
            isSeen: """
                local before = disk:ctl("mark", "m")
                disk:read(0, "4K")
                return disk:ctl("mark", "m") - before == 2
                """
        ),
        Action(
            keys: ["set_state"],
            rule: "set_state = \"new\"",
            isSeen: """
                disk:ctl("state", "old")
                disk:read(0, "4K")
                return disk:ctl("state") == "new"
                """
        ),
    ]

    private static let data: [Action] =
        ["flip", "byte", "garbage", "swab"].map { mode in
            Action(
                keys: ["verdict"],
                rule: "verdict = corrupt(\"\(mode)\")",
                verdict: "corrupt(\"\(mode)\")",
                isSeen: differs
            )
        }
        + [
            "{ mode = \"set\", value = 1, at = 7, len = 1 }", "{ mode = \"zero\", at = 100 }",
            "{ mode = \"stuck\", bit = 7, value = 1 }", "{ mode = \"flip\", sticky = true }",
        ].map { table in
            Action(
                keys: ["verdict"],
                rule: "verdict = corrupt \(table)",
                verdict: "corrupt \(table)",
                isSeen: differs
            )
        }
        + ["none", "prefix", "suffix", "middle", "random"].map { keep in
            Action(
                keys: ["verdict"],
                rule: "verdict = store(\"\(keep)\")",
                verdict: "store(\"\(keep)\")",
                op: "write",
                isSeen: "local w = disk:write(0, \"4K\") return disk:read(0, \"4K\").data ~= w.data"
            )
        }
        + [
            Action(
                keys: ["verdict"],
                rule: "verdict = misdirect(\"1M\")",
                verdict: "misdirect(\"1M\")",
                isSeen: differs
            ),
            Action(
                keys: ["verdict"],
                rule: "verdict = to(\"8M\")",
                verdict: "to(\"8M\")",
                isSeen: differs
            ),
        ]

    static let all = simple + states + data

    /// What makes it act, in a rule and in a handler, and on how many of six.
    private static let whens = [
        (rule: "state = \"never\"", handler: "false", count: 0),
        (rule: "every = 2", handler: "seen % 2 == 0", count: 3),
        (rule: "every = 1", handler: "true", count: 6),
    ]

    private func failures(_ action: Action, _ script: String, _ count: Int) throws -> [String] {
        let text = """
            local data = ("somewhere"):rep(456):sub(1, 4096)
            \(action.setUp)
            \(script)
            local function is_seen(disk) \(action.isSeen) end
            test("\(count) of 6", { size = "16M" }, function(disk)
              local times = 0
              for _ = 1, 6 do if is_seen(disk) then times = times + 1 end end
              expect(times, \(count))
            end)
            """
        let source = ScriptSource(path: "t.lua", text: text)
        let overrides: [Setting] = [.test("seed", 1), .test("size", "16M")]
        return try ScriptTestRun(source, overrides: overrides).run().compactMap(\.failure)
    }

    @Test(arguments: all)
    func `a rule does it never, sometimes and always`(action: Action) throws {
        for when in Self.whens {
            let rule = "rule { op = \"\(action.op)\", \(when.rule), \(action.rule) }"
            #expect(try failures(action, rule, when.count) == [], "\(rule)")
        }
    }

    @Test(arguments: all.filter { $0.verdict != nil })
    func `a handler does it never, sometimes and always`(action: Action) throws {
        for when in Self.whens {
            let handler = """
                local seen = 0
                local verdict = \(action.verdict ?? "")
                function \(action.op)()
                  seen = seen + 1
                  if \(when.handler) then return verdict end
                end
                """
            #expect(try failures(action, handler, when.count) == [], "\(handler)")
        }
    }

    @Test func `there is no action without`() {
        // What FUA does to a file is looked at in EffectKindTests.
        #expect(Set(Self.all.flatMap(\.keys) + ["ignore_fua"]) == Set(Rule.actions))
    }
}
