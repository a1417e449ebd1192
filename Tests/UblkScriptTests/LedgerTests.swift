import CLua
import Synchronization
import Testing

@testable import UblkScript

/// The record of what was done: complete, in order, the same for the same seed.
@Suite struct LedgerTests {
    private func record(_ number: UInt64) -> LedgerRecord {
        var io = us_io()
        io.sequence = number
        io.offset = number &* 7
        io.length = ~number
        return LedgerRecord(.decided, io, time: number &* 3)
    }

    private func isWhole(_ record: LedgerRecord) -> Bool {
        record.offset == record.sequence &* 7 && record.length == ~record.sequence
            && record.time == record.sequence &* 3
    }

    // MARK: The ring

    @Test(arguments: [0, 1, 7, 8, 9, 100])
    func `a reader gets the newest records and the number of those lost`(count: UInt64) {
        let ledger = Ledger(queue: QueueID(0), capacity: 8)
        for number in 0..<count { ledger.append(record(number)) }
        let all = ledger.read(from: 0, limit: 1000)
        let kept = min(count, 8)
        #expect(all.records.map(\.sequence) == Array(count - kept..<count))
        #expect(all.lost == count - kept)
        #expect(all.next == count)
        let again = ledger.read(from: all.next, limit: 1000)
        #expect(again.records.isEmpty && again.lost == 0 && again.next == count)
    }

    @Test func `a reader gets pieces that follow each other`() {
        let ledger = Ledger(queue: QueueID(0), capacity: 64)
        for number in 0..<50 { ledger.append(record(UInt64(number))) }
        var seen: [UInt64] = []
        var next: UInt64 = 0
        while next < ledger.total {
            let piece = ledger.read(from: next, limit: 7)
            seen += piece.records.map(\.sequence)
            next = piece.next
        }
        #expect(seen == Array(0..<50))
    }

    @Test func `a reader beside the writer sees whole records, each once or counted as lost`() {
        let ledger = Ledger(queue: QueueID(0), capacity: 64)
        let total: UInt64 = 300_000
        var threads = ThreadList()
        threads.start("test-writer") {
            for number in 0..<total { ledger.append(self.record(number)) }
        }
        var next: UInt64 = 0
        var seen: UInt64 = 0
        var lost: UInt64 = 0
        var broken = 0
        while next < total {
            let piece = ledger.read(from: next, limit: 40)
            for (index, record) in piece.records.enumerated() {
                let number = piece.next - UInt64(piece.records.count - index)
                if record.sequence != number || !isWhole(record) { broken += 1 }
            }
            seen += UInt64(piece.records.count)
            lost += piece.lost
            next = piece.next
        }
        threads.joinAll()
        #expect(broken == 0)
        #expect(seen + lost == total)
    }

    // MARK: What is written down

    private func lines(
        _ script: String,
        isJSON: Bool = false,
        seed: UInt64 = 1,
        settings: [String: String] = [:],
        _ change: (inout Simulation) -> Void = { _ in }
    ) throws -> [String] {
        let result = try simulate(script, seed: seed, settings: settings, change)
        let source = ScriptSource(path: "test.lua", text: script)
        let plan = try LoadedScript.plan(source, overrides: [.test("size", "16M")])
        let format = LedgerText(
            script: "test.lua",
            rules: plan.rules,
            seed: seed,
            isJSON: isJSON
        )
        return result.ledger.read(from: 0, limit: .max).records.map {
            format.line($0, queue: QueueID(0))
        }
    }

    private func records(
        _ script: String,
        settings: [String: String] = [:],
        _ requests: [SimulatedRequest]
    ) throws -> [LedgerRecord] {
        let result = try simulate(script, settings: settings) { $0.workload = Workload(requests) }
        return result.ledger.read(from: 0, limit: .max).records
    }

    @Test func `a rate that delayed nothing is no fault`() throws {
        let script = "rule { name = \"cap\", rate = \"1M\" }"
        // The last comes long after the others have been paid for.
        var late = SimulatedRequest.read(8192)
        late.start = .at(Instant(nanoseconds: 60_000_000_000))
        let many = Array(repeating: SimulatedRequest.read(0, 65536), count: 100)
        let found = try records(script, many + [late])
        #expect(!found.isEmpty && found.count < many.count)
        #expect(found.allSatisfy { $0.decision.delay_ns > 0 })
    }

    @Test func `a mark, a state and a forgotten range change no outcome, unless they are logged`()
        throws
    {
        func lines(_ more: String) throws -> Int {
            let script = """
                rule { mark = "m"\(more) }
                rule { set_state = "s"\(more) }
                rule { range = ranges("r"):add(0, 4096), once = true\(more) }
                """
            return try records(script, [.read(0)]).count
        }
        #expect(try lines("") == 0)
        #expect(try lines(", log = true") == 3)
    }

    private static let target = """
        device { backing = "null" }
        local disk = backing { size = "32M" }
        function read(io, offset)
          if offset == 0 then return to(4096, disk) end
          if offset == 4096 then return done(string.rep("x", 4096)) end
          if offset == 8192 then return zero() end
          if offset == 12288 then return to(0, disk) + fail("EIO") end
          return to(offset, disk) + delay("1ms")
        end
        function write() return done() end
        """

    @Test func `where a target's data is is no fault, and a line on request`() throws {
        let requests: [SimulatedRequest] = [
            .read(0), .read(4096), .read(8192), .write(0), .read(16384),
        ]
        let usual = try records(Self.target, requests)
        #expect(usual.map(\.sequence) == [5])
        let all = try records(Self.target, settings: ["ledger": "all"], requests)
        #expect(all.map(\.sequence) == [1, 2, 3, 4, 5])
        // On a device that has its data in one place a handler's to() and done() are faults.
        let fault = "function read() return to(4096) end function write() return done() end"
        #expect(try records(fault, [.read(0), .write(0)]).map(\.sequence) == [1, 2])
    }

    @Test func `ignoring FUA is a fault of writes that have it, and nothing a read can do`() throws
    {
        let cached = ["cache": "volatile", "fua": "true"]
        var durable = SimulatedRequest.write(4096)
        durable.flags = .fua
        for script in [
            "rule { op = \"write\", ignore_fua = true }",
            "function write() return ignore_fua() end",
        ] {
            let found = try records(script, settings: cached, [.write(0), durable])
            #expect(found.map(\.sequence) == [2], "\(script)")
        }
        let read = try lines("function read() return ignore_fua() end", settings: cached) {
            $0.workload = Workload([.read(0)])
        }
        #expect(
            untimed(read) == [
                "q0 io 1  read 0+4096  test.lua read(): script error, the IO got fail(\"EIO\")"
            ]
        )
    }

    @Test func `an outcome that nobody has named yet is told by its number`() {
        var record = record(1)
        record.decision.outcome = 77
        record.decision.corrupt.mode = 99
        record.decision.store.keep = 98
        for isJSON in [false, true] {
            let format = LedgerText(script: "a.lua", rules: [], seed: 1, isJSON: isJSON)
            let line = format.line(record, queue: QueueID(0))
            #expect(line.contains("outcome 77"), "\(line)")
        }
    }

    /// Without the time, which is not what these tests are about.
    private func untimed(_ lines: [String]) -> [String] {
        lines.map { line in line.split(separator: "  ").dropFirst().joined(separator: "  ") }
    }

    @Test func `rules, handlers, heals and script errors are each one line`() throws {
        let script = """
            local bad = ranges("bad"):add(8192, 4096)
            rule { name = "bad", op = "read", range = bad, error = "ENODATA", delay = "1ms" }
            rule { op = "write", range = bad, heal = true }
            function discard() return drop() end
            function write_zeroes() error("oops") end
            """
        let found = try lines(script) {
            $0.workload = Workload([
                .read(0), .read(8192), .write(0), .write(8192), .read(8192), .discard(0),
                .writeZeroes(0),
            ])
        }
        #expect(
            untimed(found) == [
                "q0 io 2  read 8192+4096  test.lua:2 bad: fail(\"ENODATA\") + delay 1 ms",
                "q0 io 4  write 8192+4096  test.lua:3: healed",
                "q0 io 6  discard 0+4096  test.lua discard(): drop()",
                "q0 io 7  write_zeroes 0+4096  test.lua write_zeroes(): script error, the IO got fail(\"EIO\")",
            ]
        )
    }

    @Test func `a script error is told with the delay that a rule has decided`() throws {
        let found = try lines("rule { delay = \"5ms\" } function read() error(\"oops\") end") {
            $0.workload = Workload([.read(0)])
        }
        #expect(
            untimed(found).last
                == "q0 io 1  read 0+4096  test.lua read(): script error, the IO got fail(\"EIO\") + delay 5 ms"
        )
    }

    @Test func `a write that is stored in part on two legs heals that part, once`() throws {
        let script = """
            local a, b = backing { size = "16M" }, backing { size = "16M" }
            local bad = ranges("bad"):add(0, 8192)
            rule { op = "write", range = bad, heal = true }
            rule { op = "write", verdict = store { keep = "prefix", units = 8, unit = 512 } }
            function write(io, offset) return to(offset, a) + to(offset, b) end
            function ctl() return #bad end
            """
        let found = try lines(script) { $0.workload = Workload([.write(0, 8192)]) }
        let healed = untimed(found).filter { $0.hasSuffix("healed") }
        #expect(healed == ["q0 io 1  write 0+4096  test.lua:3: healed"])
    }

    @Test func `what ends a hang is written down`() throws {
        let released = try lines("rule { op = \"read\", hang = true }") {
            $0.workload = Workload([.read(0)])
            $0.interventions = [QueueTests.at(10, .release(Release(errno: 5)))]
        }
        #expect(
            released == [
                released.first,
                "0.010000000  q0 io 1  read 0+4096  ctl: released, fail(\"EIO\")",
            ]
        )
        let drained = try lines("rule { op = \"read\", hang = true }") {
            $0.workload = Workload([.read(0)])
        }
        #expect(untimed(drained).first == "q0 io 1  read 0+4096  test.lua:1: hang")
        #expect(
            drained.last?.contains("server: let go, the device is being taken away, fail(\"EIO\")")
                == true
        )
    }

    @Test func `a record as JSON has everything`() throws {
        let script = """
            rule { name = 'a"\\\\', op = "read", p = 0.5, delay = "2ms", error = "ETIMEDOUT" }
            """
        let found = try lines(script, isJSON: true) {
            $0.workload = Workload(Array(repeating: .read(4096), count: 20))
        }
        let first = try #require(found.first)
        let entry = try #require(JSON.decode(Entry.self, Array(first.utf8)))
        #expect(
            entry.op == "read" && entry.offset == 4096 && entry.length == 4096 && entry.queue == 0
        )
        #expect(
            entry.action == "fail" && entry.errno == "ETIMEDOUT"
                && entry.delayNanoseconds == 2_000_000
        )
        #expect(entry.line == 1 && entry.rule == "a\"\\")
        // The rule's stream is asked once an IO.
        for line in found {
            let entry = try #require(JSON.decode(Entry.self, Array(line.utf8)))
            #expect(entry.draws == entry.io)
        }
    }

    private struct Entry: Codable {
        let t: UInt64
        let queue: Int
        let io: UInt64
        let op: String
        let offset: UInt64
        let length: UInt64
        let action: String
        let line: Int?
        let rule: String?
        let errno: String?
        let delayNanoseconds: UInt64?
        let draws: UInt64?

        enum CodingKeys: String, CodingKey {
            case t, queue, io, op, offset, length, action, line, rule, errno, draws
            case delayNanoseconds = "delay_ns"
        }
    }

    private static let chancy = """
        rule { p = 0.05, error = "EIO" }
        rule { op = "write", p = 0.1, drop = true }
        function read() if random() < 0.1 then return delay(random(1, 5) * ms) end end
        """

    @Test func `the same seed gives the same ledger, another seed another one`() throws {
        let first = try lines(Self.chancy, isJSON: true)
        #expect(first.count > 500)
        #expect(try lines(Self.chancy, isJSON: true) == first)
        #expect(try lines(Self.chancy, isJSON: true, seed: 2) != first)
    }

    @Test func `the ledger has the errors that the application saw, and no others`() throws {
        let result = try simulate(Self.chancy)
        let records = result.ledger.read(from: 0, limit: .max).records
        let failed = records.filter { UInt32($0.decision.outcome) == US_OUTCOME_FAIL.rawValue }
        let seen = result.finished.filter { $0.outcome != .done }
        #expect(!seen.isEmpty && failed.count == seen.count)
        let wanted = seen.map { "\($0.request.op.name) \($0.request.offsetBytes)" }.sorted()
        let written = failed.map { "\(IOOp(rawValue: $0.op)?.name ?? "") \($0.offset)" }.sorted()
        #expect(written == wanted)
        let dropped = records.filter { UInt32($0.decision.outcome) == US_OUTCOME_DROP.rawValue }
        #expect(UInt64(dropped.count) == result.action("dropped"))
    }
}
