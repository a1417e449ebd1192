import CLua
import Testing

@testable import UblkScript

@Suite struct RuleSetTests {
    /// The numbers of the reads, from 1, that got an error.
    private func failing(_ rule: String, of count: Int) throws -> [Int] {
        let result = try simulate("rule { op = \"read\", error = \"EIO\", \(rule) }") {
            $0.workload = Workload(Array(repeating: .read(0), count: count))
        }
        return result.outcomes.enumerated().filter { $0.element == "EIO" }.map { $0.offset + 1 }
    }

    @Test func `nth acts once, on that IO`() throws {
        #expect(try failing("nth = 1", of: 6) == [1])
        #expect(try failing("nth = 3", of: 6) == [3])
        #expect(try failing("nth = 6", of: 6) == [6])
        #expect(try failing("nth = 7", of: 6) == [])
    }

    @Test func `every acts on each so-manieth IO`() throws {
        #expect(try failing("every = 1", of: 6) == [1, 2, 3, 4, 5, 6])
        #expect(try failing("every = 2", of: 6) == [2, 4, 6])
        #expect(try failing("every = 6", of: 6) == [6])
        #expect(try failing("every = 7", of: 6) == [])
    }

    @Test func `times acts that often and no more`() throws {
        #expect(try failing("times = 1", of: 6) == [1])
        #expect(try failing("times = 5", of: 6) == [1, 2, 3, 4, 5])
        #expect(try failing("times = 6", of: 6) == [1, 2, 3, 4, 5, 6])
        #expect(try failing("times = 7", of: 6) == [1, 2, 3, 4, 5, 6])
    }

    @Test func `p never, sometimes and always acts`() throws {
        #expect(try failing("p = 0", of: 500) == [])
        #expect(try failing("p = 1", of: 500).count == 500)
        let some = try failing("p = 0.1", of: 5000).count
        #expect((400...600).contains(some), "p = 0.1 acted \(some) times in 5000")
    }

    @Test func `times counts IOs that chance let through`() throws {
        let numbers = try failing("p = 0.1, times = 5", of: 5000)
        #expect(numbers.count == 5)
        #expect(numbers != [1, 2, 3, 4, 5])
    }

    @Test func `every counts only IOs that fit op and range`() throws {
        let result = try simulate(
            "rule { op = \"read\", range = { 0, 4096 }, every = 2, error = \"EIO\" }"
        ) {
            $0.workload = Workload([
                .read(0), .read(4096), .write(0), .read(0), .read(0), .write(0), .read(0),
            ])
        }
        #expect(result.outcomes == ["", "", "", "EIO", "", "", "EIO"])
    }

    @Test func `the first rule with an outcome ends the search`() throws {
        let result = try simulate(
            """
            rule { op = "read", nth = 2, error = "ENODATA" }
            rule { op = "read", error = "ENOSPC", times = 2 }
            rule { op = "read", error = "EIO" }
            """
        ) { $0.workload = Workload(Array(repeating: .read(0), count: 4)) }
        #expect(result.outcomes == ["ENOSPC", "ENODATA", "ENOSPC", "EIO"])
        #expect(result.report.rules.map(\.acted) == [1, 2, 1])
        #expect(result.report.rules.map(\.line) == [1, 2, 3])
    }

    // MARK: The index

    /// A rule of the model: its op, and which set it has (nil: none).
    private struct ModelRule {
        let op: IOOp
        let set: Int?
    }

    private static let blocks = 64

    /// Rules on random ops and sets; `ctl` edits the sets.
    private static func script(_ rules: [ModelRule], sets: Int) -> String {
        var lines = ["sets = {}"]
        lines += (0..<sets).map { "sets[\($0)] = ranges(\"s\($0)\")" }
        for rule in rules {
            let range = rule.set.map { ", range = sets[\($0)]" } ?? ""
            lines.append("rule { op = \"\(rule.op.name)\"\(range), delay = \"1us\" }")
        }
        lines.append("function ctl(cmd, set, o, l) local s = sets[tonumber(set)]")
        lines.append(
            "  if cmd == 'add' then s:add(o, l) elseif cmd == 'remove' then s:remove(o, l)"
        )
        lines.append("  else s:clear() end end")
        return lines.joined(separator: "\n")
    }

    /// Each rule that matches adds a microsecond, so the delay says how many did; which ones, their counters.
    @Test(arguments: [1, 2, 3, 4, UInt64.random(in: 5...UInt64.max)])
    func `rules found by index are those found by looking at each`(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let sets = 1 + Int(random.below(12))
        let model = (0..<Int(random.below(30))).map { _ in
            ModelRule(
                op: random.below(2) == 0 ? .read : .write,
                set: random.below(8) == 0 ? nil : Int(random.below(UInt64(sets)))
            )
        }
        var contents = Array(repeating: Set<Int>(), count: sets)
        let shared = SharedObjects(queues: 1)
        let counters = RuleCounters(count: model.count)
        let source = ScriptSource(path: "t.lua", text: Self.script(model, sets: sets))
        let size = Setting(key: "size", value: .string("1M"), origin: "test")
        var loaded = try LoadedScript.plan(source, overrides: [size]).load(
            queue: QueueID(0),
            shared: shared,
            counters: counters,
            ledger: Ledger(queue: QueueID(0)),
            logFD: -1
        )
        var acted = Array(repeating: UInt64(0), count: model.count)
        for step in 0..<2000 {
            if random.below(4) == 0 {
                let set = Int(random.below(UInt64(sets)))
                let first = Int(random.below(UInt64(Self.blocks)))
                let end = min(Self.blocks, first + 1 + Int(random.below(4)))
                let command = ["add", "add", "remove", "clear"][Int(random.below(40) / 13)]
                _ = try loaded.script.ctl(
                    [command, "\(set)", "\(first * 512)", "\((end - first) * 512)"],
                    now: Instant(nanoseconds: 0)
                )
                switch command {
                case "add": contents[set].formUnion(first..<end)
                case "remove": contents[set].subtract(first..<end)
                default: contents[set] = []
                }
            }
            let op: IOOp = random.below(2) == 0 ? .read : .write
            let first = Int(random.below(UInt64(Self.blocks)))
            let end = min(Self.blocks, first + 1 + Int(random.below(3)))
            for (index, rule) in model.enumerated() where rule.op == op {
                if let set = rule.set, contents[set].isDisjoint(with: first..<end) { continue }
                acted[index] += 1
            }
            let requests = RequestTable(depth: 1, queue: QueueID(0), counters: QueueCounters())
            var decision = us_decision()
            var heals: UInt64 = 0
            var io = us_io()
            io.op = op.rawValue
            io.offset = UInt64(first * 512)
            io.length = UInt64((end - first) * 512)
            _ = unsafe loaded.rules.match(
                &io,
                op: op,
                now: Instant(nanoseconds: 0),
                inFlight: 1,
                data: nil,
                decision: &decision,
                segments: requests.segments(Tag(0)),
                heals: &heals
            )
            let found = model.indices.map { counters.acted($0) }
            try #require(found == acted, "seed \(seed), step \(step)")
        }
    }
}
