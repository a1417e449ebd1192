import CLua
import Testing

@testable import UblkScript

/// One table says all there is to say of an outcome: what rules, handlers, counters, the ledger and the simulator make
/// of it agrees, also for lines that are added to it.
struct VocabularyTests {
    private static let keys = Outcome.all.compactMap { outcome in
        outcome.ruleKey.map { (key: $0, outcome: outcome) }
    }

    @Test func `an outcome that a rule names is counted and recorded under its names`() throws {
        #expect(Self.keys.map(\.key) == ["error", "drop", "zero"])
        for (key, outcome) in Self.keys {
            let value = key == "error" ? "\"EIO\"" : "true"
            let result = try simulate("rule { op = \"write\", \(key) = \(value) }") {
                $0.workload = Workload([.write(0)])
            }
            let records = result.ledger.read(from: 0, limit: .max).records
            #expect(records.map(\.action) == [outcome.name], "\(key)")
            #expect(result.counters[outcome] == 1, "\(key)")
            #expect(
                result.report.actions.map { "\($0.name) \($0.count)" }
                    == ["\(outcome.counter ?? "?") 1"]
            )
        }
    }

    @Test func `rules and handlers refuse the same outcomes for an operation`() throws {
        for op in IOOp.allCases {
            for verdict in ["fail(\"EIO\")", "drop()", "zero()", "done()", "to(0)", "ignore_fua()"]
            {
                let rule = "rule { op = \"\(op.name)\", verdict = \(verdict) }"
                let isRefused: Bool
                do {
                    _ = try LoadedScript.plan(
                        ScriptSource(path: "x.lua", text: "device { size = \"1G\" }\n" + rule)
                    )
                    isRefused = false
                } catch { isRefused = true }
                let request = SimulatedRequest(op: op, lengthBytes: op == .flush ? 0 : 4096)
                let result = try simulate(
                    "function \(op.name)() return \(verdict) end",
                    settings: ["cache": "volatile"]
                ) { $0.workload = Workload([request]) }
                #expect((result.report.scriptErrors.count != 0) == isRefused, "\(rule)")
            }
        }
    }

    @Test func `a rule's keys add up and contradict each other as verdicts do`() throws {
        func verdict(_ keys: String) throws -> String {
            let plan = try LoadedScript.plan(
                ScriptSource(path: "x.lua", text: "device { size = \"1G\" }\nrule { \(keys) }")
            )
            let loaded = try plan.load(
                queue: QueueID(0),
                shared: SharedObjects(queues: 1),
                counters: RuleCounters(count: 1),
                ledger: Ledger(queue: QueueID(0), capacity: 1),
                logFD: -1
            )
            return loaded.script.sourceName
        }
        _ = try verdict("error = \"EIO\", delay = \"1ms\", hang = \"1s\"")
        for (first, _) in Self.keys {
            for (second, _) in Self.keys where first != second {
                let keys = [first, second].map {
                    $0 + (" = " + ($0 == "error" ? "\"EIO\"" : "true"))
                }
                let error = #expect(throws: (any Error).self) {
                    try verdict("op = \"write\", " + keys.joined(separator: ", "))
                }
                let text = "\(try #require(error))"
                #expect(text.contains("error, drop and zero exclude each other"))
            }
        }
    }

    @Test func `an outcome that nobody knows is told of and traps nothing`() {
        var io = us_io()
        io.op = 77
        var record = LedgerRecord(.decided, io, time: 1, rule: 3)
        record.decision.outcome = 250
        record.decision.corrupt.mode = 250
        record.decision.store.keep = 250
        for isJSON in [false, true] {
            let text = LedgerText(script: "x.lua", rules: [], seed: 1, isJSON: isJSON)
            #expect(text.line(record, queue: QueueID(0)).contains("outcome 250"))
        }
        #expect(unsafe us_decision_ops(&record.decision) == 0)
        #expect(unsafe !us_decision_maps(&record.decision, &io))
    }

    @Test func `operations and flags have the driver's numbers`() {
        #expect(IOOp.allCases.map { UInt32($0.rawValue) } == [0, 1, 2, 3, 5])
        #expect(IOOp.allCases.map(\.name) == ["read", "write", "flush", "discard", "write_zeroes"])
        #expect(US_IO_FUA.rawValue == IOFlags.fua.rawValue)
        #expect(US_IO_NOUNMAP.rawValue == IOFlags.noUnmap.rawValue)
    }

    /// Words of one meaning, which no other part of the program could need.
    private static let words =
        Outcome.all.compactMap(\.counter)
        + us_release_order.all.map(\.word).filter { $0 != "random" }
        + RuleConditions.flagBits.map(\.name).filter { $0 != "fua" } + ["redirect"]
        + ["garbage", "swab", "stuck", "prefix", "suffix", "middle"]

    @Test(.enabled(if: !SourceTree.swift.isEmpty, "the sources are not where the tests were built"))
    func `a word of the vocabulary is written down once`() {
        let files = (SourceTree.swift + SourceTree.clang).filter {
            !$0.path.hasSuffix("/vocabulary.h") && !$0.path.hasSuffix("/shipped.c")
        }
        for word in Self.words {
            let others = files.filter { $0.text.contains("\"\(word)\"") }.map(\.path)
            #expect(others.isEmpty, "\"\(word)\" again in \(others)")
        }
    }
}
