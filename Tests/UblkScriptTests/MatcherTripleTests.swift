import CLua
import Testing

@testable import UblkScript

/// Each matcher of rules never, sometimes and always: the same IOs, one at a time, and how many of them the rule acts
/// on.
@Suite struct MatcherTripleTests {
    struct Matcher: Sendable, CustomTestStringConvertible {
        let key: String
        let never: String
        let sometimes: String
        /// Of the twelve.
        let count: Int
        /// nil: there is no such rule.
        let always: String?
        var testDescription: String { key }

        init(_ key: String, _ never: String, _ sometimes: String, _ count: Int, _ always: String?) {
            self.key = key
            self.never = never
            self.sometimes = sometimes
            self.count = count
            self.always = always
        }
    }

    /// Twelve writes, a tenth of a second each.
    ///
    /// To two places in turn, the last four to a place of their own. The first six are metadata, the first three
    /// zeroes.
    private static let io = """
        for i = 1, 12 do
          local offset = (i > 8 and i * 65536 or i % 2 * 4096)
          local data = i <= 3 and ("\\0"):rep(4096) or ("x"):rep(i > 10 and 8192 or 4096)
          local write = i <= 6 and disk:write(offset, data, "meta") or disk:write(offset, data)
          if write.errno then count = count + 1 end
        end
        """

    static let all = [
        Matcher(
            "op",
            "op = \"read\"",
            "op = { \"read\", \"write\" }, range = { 0, 4096 }",
            4,
            "op = \"write\""
        ),
        Matcher(
            "range",
            "range = { \"1M\", 512 }",
            "range = { 4608, 512 }",
            4,
            "range = { 0, \"16M\" }"
        ),
        Matcher("flags", "flags = \"swap\"", "flags = \"meta\"", 6, "flags = \"!fua\""),
        Matcher("len", "len = 512", "len = \"8K\"", 2, "len = { \"4K\", \"8K\" }"),
        Matcher(
            "align",
            "align = \"1T\", range = { 4096, \"15M\" }",
            "align = \"64K\"",
            8,
            "align = 4096"
        ),
        Matcher("queue", "queue = 1", "queue = 0, nth = 2", 1, "queue = 0"),
        Matcher("tag", "tag = 100", "tag = 0, nth = 2", 1, "tag = 0"),
        Matcher("depth", "depth = 2", "depth = 1, nth = 2", 1, "depth = 1"),
        Matcher(
            "window",
            "window = { from = \"1h\" }",
            "window = { to = \"50ms\", period = \"200ms\" }",
            6,
            "window = { from = 0 }"
        ),
        Matcher("after", "after = \"1h\"", "after = { ops = 5 }", 7, "after = 0"),
        Matcher("before", "before = { bytes = 0 }", "before = \"450ms\"", 5, "before = \"1h\""),
        Matcher("state", "state = \"other\"", "state = \"late\"", 4, nil),
        Matcher(
            "content",
            "content = { hex = \"00ff\" }",
            "content = \"zero\"",
            3,
            "content = { at = 0, hex = \"00\" }, before = \"250ms\""
        ),
        Matcher("seen", "seen = 200", "seen = 2", 2, nil),
        Matcher("age", "age = \"1h\"", "age = \"150ms\", range = { 0, 8192 }", 6, nil),
        Matcher(
            "trigger",
            "trigger = \"/nowhere/at-all\"",
            "trigger = \"/\", nth = 2",
            1,
            "trigger = \"/\""
        ),
        Matcher("skip", "skip = 12", "skip = 5", 7, nil),
        Matcher("nth", "nth = 13", "nth = 12", 1, nil),
        Matcher("every", "every = 13", "every = 5", 2, "every = 1"),
        Matcher("p", "p = 0", "p = 0.5", -1, "p = 1"),
        Matcher("run", "run = 3, nth = 13", "run = 3, nth = 2", 3, "run = 12, nth = 1"),
        Matcher("times", "times = 3, nth = 13", "times = 3", 3, "times = 12"),
    ]

    private func acted(_ matcher: String) throws -> Int {
        let text = """
            rule { op = "write", range = { 9 * 65536, "1K" }, set_state = "late" }
            rule { op = "write", delay = "100ms" }
            rule { \(matcher.contains("op =") ? "" : "op = \"write\", ")\(matcher), error = "EIO" }
            test("t", function(disk)
              local count = 0
              \(Self.io)
              error("acted on " .. count)
            end)
            """
        let source = ScriptSource(path: "t.lua", text: text)
        let overrides: [Setting] = [.test("seed", 1), .test("size", "16M")]
        let failure = try ScriptTestRun(source, overrides: overrides).run().first?.failure ?? ""
        let words = failure.split(separator: " ")
        return try #require(words.last.flatMap { Int($0) }, "\(failure)")
    }

    @Test(arguments: all)
    func `it fits never, sometimes and always`(matcher: Matcher) throws {
        #expect(try acted(matcher.never) == 0, "\(matcher.never)")
        let some = try acted(matcher.sometimes)
        #expect(matcher.count < 0 ? (1...11).contains(some) : some == matcher.count, "\(some)")
        if let always = matcher.always {
            let expected = matcher.key == "content" ? 3 : 12
            #expect(try acted(always) == expected, "\(always)")
        }
    }

    @Test func `there is no matcher without`() {
        let keys = Set(Rule.keys).subtracting(Rule.actions).subtracting(["name"])
        #expect(Set(Self.all.map(\.key)) == keys)
    }

    @Test func `queue and tag tell the queues and tags of a device apart`() throws {
        var conditions = RuleConditions()
        conditions.queue = 1
        conditions.tag = 3
        for queue in 0..<3 as Range<UInt16> {
            for tag in 0..<5 as Range<UInt16> {
                var io = us_io()
                io.queue = queue
                io.tag = tag
                #expect(conditions.hold(io, RuleMoment()) == (queue == 1 && tag == 3))
            }
        }
    }

    @Test func `content may be what a hash stands for`() throws {
        let text = """
            local wanted = params { hash = 0 }
            rule { op = "write", content = { hash = math.tointeger(wanted.hash) }, error = "EIO" }
            function write(io) log(io:hash()) end
            test("t", { hash = HASH }, function(disk)
              local good, bad = ("good"):rep(1024), ("badd"):rep(1024)
              expect(disk:write(0, good).errno, nil)
              expect(disk:write(0, bad).errno, "EIO")
              expect(disk:write(0, bad .. bad).errno, nil)
            end)
            """
        let bad = Array("badd".utf8)
        let bytes = (0..<4096).map { bad[$0 % 4] }
        let hash = unsafe Int64(
            bitPattern: DataHash.of(bytes, length: UInt64(bytes.count))
        )
        let source = ScriptSource(
            path: "t.lua",
            text: text.split(separator: "HASH").joined(separator: "\(hash)")
        )
        let overrides: [Setting] = [.test("seed", 1), .test("size", "16M")]
        #expect(try ScriptTestRun(source, overrides: overrides).run().map(\.failure) == [nil])
    }
}
