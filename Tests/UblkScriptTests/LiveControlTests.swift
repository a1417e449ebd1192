import CLua
import Testing

@testable import UblkScript

/// The built-in words of `ctl`, said while IOs go on.
@Suite struct LiveControlTests {
    /// What each of the words answered, one every 10 ms of a run with reads 5 ms after them.
    private func run(
        _ script: String,
        _ words: [[String]],
        reads: Int = 8
    ) throws -> (answers: [ControlAnswer?], outcomes: String) {
        let promises = words.map { _ in Promise<QueueAnswer>() }
        var refused: [Int: ControlAnswer] = [:]
        var messages: [SimulatedTransport.Intervention] = []
        for (index, pair) in zip(words, promises).enumerated() {
            do throws(AdminRefusal) {
                guard case .queue(let request) = try AdminRequest(control: pair.0) else { continue }
                messages.append(QueueTests.at(UInt64(index + 1) * 10, .ask(request, pair.1)))
            } catch { refused[index] = ControlAnswer(isOK: false, text: error.text) }
        }
        let result = try simulate(
            "rule { nth = 1, delay = \"5ms\" }\nrule { skip = 1, delay = \"10ms\" }\n\(script)"
        ) {
            $0.workload = Workload(Array(repeating: .read(0), count: reads))
            $0.interventions = messages
        }
        let outcomes = result.outcomes.map { $0.isEmpty ? "." : "x" }.joined()
        let answers = promises.enumerated().map { index, promise in
            refused[index] ?? promise.wait(seconds: 0)?.said
        }
        return (answers, outcomes)
    }

    private func ok(_ text: String) -> ControlAnswer { ControlAnswer(isOK: true, text: text) }

    @Test func `a rule is switched off and on by name, line and all`() throws {
        let script = "rule { name = \"bad\", error = \"EIO\" }"
        #expect(try run(script, []).outcomes == "xxxxxxxx")
        let (answers, outcomes) = try run(
            script,
            [["rule", "off", "bad"], ["rule"], ["rule", "on", "3"]]
        )
        #expect(outcomes == "xx..xxxx")
        #expect(answers[0] == ok("line 3 bad: off, acted 2 times"))
        #expect(answers[1]?.text.split(separator: "\n").last == "line 3 bad: off, acted 2 times")
        #expect(answers[2] == ok("line 3 bad: on, acted 2 times"))
        #expect(try run(script, [["rule", "off", "all"]]).outcomes == "xx......")
    }

    @Test func `sets are listed and edited by name`() throws {
        let script = "local bad = ranges(\"bad\")\nrule { range = bad, error = \"EIO\" }"
        let (answers, outcomes) = try run(
            script,
            [
                ["ranges"], ["ranges", "bad", "add", "0", "8K"],
                ["ranges", "bad", "remove", "4K", "1K"],
                ["ranges", "bad", "list"], ["ranges", "bad", "clear"], ["ranges", "bad", "count"],
            ]
        )
        #expect(
            answers == [
                ok("bad: 0 ranges, 0 bytes"), ok("bad: 1 ranges, 8192 bytes"),
                ok("bad: 2 ranges, 7168 bytes"), ok("0 4096\n5120 3072"),
                ok("bad: 0 ranges, 0 bytes"),
                ok("bad: 0 ranges, 0 bytes"),
            ]
        )
        #expect(outcomes == "...xxx..")
    }

    @Test func `of several ranges all are taken or none`() throws {
        let script = "local bad = ranges(\"bad\"):add(0, 4096)"
        let (answers, _) = try run(
            script,
            [
                ["ranges", "bad", "add", "8K", "4K", "16K", "x"],
                ["ranges", "bad", "remove", "0", "4K", "16K", "0"],
                ["ranges", "bad", "add", "18446744073709551615", "4K"],
                ["ranges", "bad", "add", "9223372036854775807", "1"],
                ["ranges", "bad", "list"],
            ]
        )
        #expect(answers.prefix(4).allSatisfy { $0?.isOK == false }, "\(answers)")
        #expect(answers[4] == ok("0 4096"))
    }

    @Test func `marks, the state and the seed`() throws {
        let script = """
            rule { after = { mark = "go" }, error = "EIO" }
            function ctl() return state(), 5 end
            """
        let (answers, outcomes) = try run(
            script,
            [["mark", "go"], ["mark", "go"], ["state"], ["state", "bad"], ["own"], ["seed"]]
        )
        #expect(answers == [ok("1"), ok("2"), ok(""), ok("bad"), ok("bad\t5"), ok("1")])
        #expect(outcomes == "..xxxxxx")
    }

    @Test func `named sets are told in the order they were made`() {
        let shared = SharedObjects(queues: 1)
        for name in ["b", "", "a", "c", ""] {
            let set = shared.makeRanges(named: name)
            #expect(set != nil)
        }
        #expect(shared.rangesNames == ["b", "a", "c"])
    }

    @Test func `what is no word is refused with what there is`() throws {
        let script = "local bad = ranges(\"bad\")\nrule { name = \"weak\", error = \"EIO\" }"
        let wrong: [([String], String)] = [
            (["rule", "of", "weak"], "rule off NAME"),
            (["rule", "off", "bad"], "there is 1, 2, weak"),
            (["rule", "on"], "rule on NAME"), (["ranges", "worse"], "there is bad"),
            (["ranges", "bad", "add", "1Q", "4K"], "1Q 4K"),
            (["ranges", "bad", "add", "0", "0"], "above 0"),
            (["ranges", "bad", "add", "0"], "is expected"), (["mark"], "one name"),
            (["mark", ""], "1 to 64"), (["state", "a", "b"], "at most one"),
            (["seed", "3"], "no argument"),
            (
                ["own"],
                "no ctl function, and the built-in words are: release held stats pause resume rule ranges"
            ),
        ]
        let (answers, _) = try run(script, wrong.map(\.0), reads: 20)
        for (answer, expected) in zip(answers, wrong) {
            #expect(answer?.isOK == false, "\(expected.0)")
            #expect(
                answer?.text.contains(expected.1) == true,
                "\(expected.0): \(answer?.text ?? "")"
            )
        }
    }

    @Test(arguments: [
        (["fifo", "lifo"], "two orders are named: fifo and lifo"), (["5", "7"], "two counts"),
        (["EIO", "lifo", "EIO"], "two errnos"), (["0:1", "0:2", "0:1"], "0:1 is named twice"),
        (["0"], "no count above 0"), (["0:65536"], "no QUEUE:TAG"), (["EPERM"], "no errno"),
    ])
    func `what contradicts itself releases nothing`(words: [String], why: String) {
        #expect { try Release(words: words) } throws: { error in
            (error as? AdminRefusal)?.text.contains(why) == true
        }
    }

    @Test func `pause holds what arrives and resume decides about it`() throws {
        let script = "rule { error = \"EIO\", before = \"15ms\" }"
        let result = try simulate(script) {
            $0.workload = Workload(Array(repeating: .read(0), count: 3))
            $0.workload.depth = 3
            $0.interventions = [QueueTests.at(0, .pause(true)), QueueTests.at(20, .pause(false))]
        }
        // Decided after 15 ms, so the rule does not act.
        #expect(result.outcomes == ["", "", ""])
        #expect(result.finished.allSatisfy { $0.endedAt.nanoseconds == 20_000_000 })
    }

    @Test func `draining ends a pause`() throws {
        let result = try simulate("") {
            $0.workload = Workload(Array(repeating: .read(0), count: 3))
            $0.interventions = [QueueTests.at(0, .pause(true)), QueueTests.at(20, .drain)]
        }
        #expect(result.outcomes == ["", "", ""])
    }
}
