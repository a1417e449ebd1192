import CLua
import Testing

@testable import UblkScript

/// How words become a request: each word with the right arguments, with wrong ones, and words that are none.
@Suite struct AdminRequestTests {
    private static let understood: [([String], QueueRequest)] = [
        (["release"], .release(Release())),
        (
            ["release", "lifo", "3", "EIO"],
            .release(Release(order: US_RELEASE_LIFO, count: 3, errno: 5))
        ),
        (
            ["release", "0:5", "random", "1:2"],
            .release(
                Release(
                    order: US_RELEASE_RANDOM,
                    places: [.init(queue: 0, tag: 5), .init(queue: 1, tag: 2)]
                )
            )
        ),
        (["held"], .held), (["pause"], .pause(true)), (["resume"], .pause(false)),
        (["rule"], .live(.rules)), (["rule", "on", "bad"], .live(.turnRules("bad", isOn: true))),
        (["rule", "off", "all"], .live(.turnRules("all", isOn: false))),
        (["ranges"], .live(.sets)), (["ranges", "bad"], .live(.set("bad", nil))),
        (["ranges", "bad", "list"], .live(.set("bad", .list))),
        (["ranges", "bad", "count"], .live(.set("bad", .count))),
        (["ranges", "bad", "clear"], .live(.set("bad", .clear))),
        (
            ["ranges", "bad", "add", "4K", "512", "1M", "1"],
            .live(
                .set(
                    "bad",
                    .add([
                        .init(offset: 4096, length: 512), .init(offset: 1 << 20, length: 1),
                    ])
                )
            )
        ),
        (
            ["ranges", "bad", "remove", "0", "4K"],
            .live(.set("bad", .remove([.init(offset: 0, length: 4096)])))
        ),
        (["mark", "go"], .live(.mark("go"))), (["state"], .live(.state)),
        (["state", "worn"], .live(.setState("worn"))), (["seed"], .live(.seed)),
    ]

    private func queueRequest(
        _ words: [String],
        asJSON: Bool = false
    ) throws -> QueueRequest? {
        guard case .queue(let request) = try AdminRequest(control: words, asJSON: asJSON) else {
            return nil
        }
        return request
    }

    @Test(arguments: understood)
    func `a word and its arguments are one request`(words: [String], expected: QueueRequest) throws
    {
        #expect(try queueRequest(words) == expected)
        #expect(try queueRequest(words, asJSON: true) == expected)
    }

    @Test func `each built-in word is understood in some way`() throws {
        guard case .server(.statistics) = try AdminRequest(control: ["stats"]) else {
            Issue.record("stats is for the server")
            return
        }
        let said = Set(Self.understood.map { $0.0[0] } + ["stats"])
        #expect(said == Set(ControlWord.all.filter { $0.request != nil }.map(\.word)))
    }

    @Test(arguments: [
        (["release", "up"], "release: \"up\" is no order (fifo, lifo, random)"),
        (["release", "fifo", "lifo"], "release: two orders are named: fifo and lifo"),
        (["held", "0"], "held takes no argument, and \"0\" is one"),
        (["stats", "x"], "stats takes no argument, and \"x\" is one"),
        (["pause", "1s"], "pause takes no argument, and \"1s\" is one"),
        (["resume", ""], "resume takes no argument, and \"\" is one"),
        (["rule", "of", "x"], "rule: \"rule\", \"rule on NAME\" or \"rule off NAME\" is expected"),
        (["rule", "on"], "rule: \"rule\", "), (["rule", "on", "x", "y"], "rule: \"rule\", "),
        (["ranges", "bad", "burn"], "ranges: \"ranges\", \"ranges NAME list\""),
        (["ranges", "bad", "list", "x"], "ranges: \"ranges\", "),
        (["ranges", "bad", "add"], "ranges: \"ranges\", "),
        (["ranges", "bad", "add", "0", "4K", "8K"], "ranges: \"ranges\", "),
        (["ranges", "bad", "remove", "0"], "ranges: \"ranges\", "),
        (["ranges", "bad", "add", "1Q", "4K"], "ranges: 1Q 4K: an offset and a length above 0"),
        (["ranges", "bad", "add", "0", "0"], "ranges: 0 0: an offset and a length above 0"),
        (
            ["ranges", "bad", "remove", "0", "4K", "9223372036854775807", "1"],
            "ranges: 9223372036854775807 1: "
        ),
        (["mark"], "mark: one name is expected"), (["mark", "a", "b"], "mark: one name"),
        (["mark", "a b"], "\"a b\" (byte 2 is a blank): "),
        (["state", "a", "b"], "state: at most one name is expected"),
        (["state", ""], "\"\" ("), (["seed", "3"], "seed takes no argument, and \"3\" is one"),
    ])
    func `a word with other arguments is refused, with what is expected`(
        words: [String],
        text: String
    ) {
        #expect { try AdminRequest(control: words) } throws: { error in
            (error as? AdminRefusal)?.text.hasPrefix(text) == true
        }
    }

    @Test(arguments: [[], ["addbad", "4K"], ["Held"], ["reload", "x"], ["-"], ["release "]])
    func `what is no built-in word is for the script's own function`(words: [String]) throws {
        for asJSON in [false, true] {
            #expect(
                try queueRequest(words, asJSON: asJSON) == .script(words, asJSON: asJSON)
            )
        }
    }

    // MARK: The table

    @Test func `the table names each word once, and its help is a column`() {
        let words = ControlWord.all.map(\.word)
        #expect(Set(words).count == words.count)
        let lines = ControlWord.helpText.split(separator: "\n")
        #expect(lines.contains("  held        the IOs that are held"))
        #expect(lines.contains("  ranges [SET ...]"))
        #expect(lines.allSatisfy { $0.count <= 78 })
        for line in lines where !line.hasPrefix(String(repeating: " ", count: 14)) {
            let word = line.dropFirst(2).prefix { $0 != " " }
            #expect(words.contains(String(word)), "\(line)")
        }
    }

    @Test(arguments: [
        (["held"], true), (["rule"], true), (["rule", "off", "x"], true), (["ranges"], true),
        (["ranges", "bad", "list"], false), (["stats"], false), (["own"], false), ([], false),
    ])
    func `the table knows which answers are rows`(words: [String], isRows: Bool) {
        #expect(ControlWord.hasRows(words) == isRows)
    }

    // MARK: The socket

    @Test func `a call over the socket is a request and how its answer is wanted`() throws {
        let text = try AdminCall(words: ["ctl", "held"])
        let json = try AdminCall(words: ["ctl-json", "own", "x"])
        #expect(!text.asJSON && json.asJSON)
        guard case .queue(.held) = text.request,
            case .queue(.script(["own", "x"], asJSON: true)) = json.request,
            case .server(.status) = try AdminCall(words: ["status"]).request,
            case .server(.takeDown(deletes: true, patienceSeconds: 7)) =
                try AdminCall(words: ["del", "7"]).request,
            case .server(.stopIfUnused(patienceSeconds: 9)) =
                try AdminCall(words: ["stop-if-unused", "9"]).request,
            case .server(.quiesce(patienceSeconds: 9)) =
                try AdminCall(words: ["quiesce", "9"]).request,
            case .server(.takeDown(deletes: false, patienceSeconds: nil)) =
                try AdminCall(words: ["stop"]).request,
            case .server(.resize(let larger)) = try AdminCall(words: ["resize", "+1G"]).request,
            case .server(.resize(let smaller)) =
                try AdminCall(words: ["resize", "4096", "force"]).request,
            case .server(.reached(.rule("bad", times: 3))) =
                try AdminCall(words: ["reached", "rule", "bad", "3"]).request,
            case .server(.ledger(let ledger)) =
                try AdminCall(words: ["ledger", "json", "go", "3,x,5", "op=read"]).request,
            case .server(.reload(let reload)) =
                try AdminCall(
                    words: ["reload", "other"] + ScriptSource(path: "a.lua", text: "x()").asWords
                        + ["size=1M"]
                ).request
        else {
            Issue.record("a call is read wrong")
            return
        }
        #expect(larger == ResizeRequest(.more(1 << 30)))
        #expect(smaller == ResizeRequest(.bytes(4096), isForced: true))
        #expect(ledger.isJSON && ledger.mark == "go" && ledger.from == [3, 0, 5])
        #expect(reload.isOther && reload.source.path == "a.lua")
        #expect(reload.settings.map(\.key) == ["size"])
    }

    @Test(arguments: [
        ([], "unknown request \"\""), (["burn"], "unknown request \"burn\""),
        (["ctl", "mark"], "mark: one name is expected"),
        (["reached", "held", "0"], "reached: rule, mark, held or state"),
        (["ledger", "text"], "ledger: three words at least"),
        (["ledger", "text", "", "", "op=reed"], "ledger: --op: \"reed\" is none"),
        (["reload", "other", "x"], "reload: a script is expected"),
    ])
    func `a call that is none is refused`(words: [String], text: String) {
        #expect { try AdminCall(words: words) } throws: { error in
            (error as? AdminRefusal)?.text.hasPrefix(text) == true
        }
    }

    @Test(
        arguments: [
            (["rule", "a"], .rule("a", times: 1)), (["rule", "a", "2"], .rule("a", times: 2)),
            (["mark", "a"], .mark("a", times: 1)), (["mark", "a", "9"], .mark("a", times: 9)),
            (["held"], .held(1)), (["held", "4"], .held(4)), (["state", "a"], .state("a")),
            ([], nil), (["rule"], nil), (["rule", "a", "0"], nil), (["rule", "a", "1", "2"], nil),
            (["mark", "a", "x"], nil), (["held", "0"], nil), (["held", "1", "2"], nil),
            (["state"], nil), (["state", "a", "1"], nil), (["flag", "a"], nil),
        ] as [([String], Milestone?)]
    )
    func `what is waited for is read the same on both sides`(
        words: [String],
        expected: Milestone?
    ) {
        #expect(Milestone(words: words) == expected)
    }

    @Test func `what goes over the socket comes back as it was sent`() {
        let report = Milestone.Report(isReached: true, count: 3, text: "3 IOs are held")
        #expect(report.line == "yes 3 3 IOs are held")
        #expect(Milestone.Report(line: report.line) == report)
        #expect(Milestone.Report(line: "yes three x") == nil)
        for (overwritten, text) in [("", ""), ("a.lua:2 5", ""), ("", "a\nb"), ("x", "a\n\nb")] {
            let page = LedgerPage(
                cursor: "4,5",
                lost: 7,
                hasMore: overwritten.isEmpty,
                overwritten: overwritten,
                text: text
            )
            #expect(LedgerPage(lines: page.lines) == page)
        }
        #expect(LedgerPage(lines: "4,5 7") == nil)
    }
}
