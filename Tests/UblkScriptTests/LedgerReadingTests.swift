import CLua
import Glibc
import Synchronization
import Testing

@testable import UblkScript

/// How the ledgers of many queues arrive at whoever reads them: page by page, filtered, in a file.
@Suite struct LedgerReadingTests {
    private func record(_ time: UInt64, rule: Int32 = LedgerRecord.nobody) -> LedgerRecord {
        var io = us_io()
        io.sequence = time
        io.length = 4096
        io.offset = time * 4096
        return LedgerRecord(.decided, io, time: time, rule: rule)
    }

    private static let rules = [
        RuleLabel(line: 2, name: "bad", number: 1), RuleLabel(line: 5, name: "", number: 2),
        RuleLabel(line: 0, name: "", script: "b.lua"),
        RuleLabel(line: 7, name: "bad", script: "b.lua", number: 1),
    ]

    private func format(isJSON: Bool = false) -> LedgerText {
        LedgerText(script: "a.lua", rules: Self.rules, seed: 1, isJSON: isJSON)
    }

    // MARK: Pages

    @Test
    func `full rings of sixteen queues arrive in pages, all of them and in the order of time`() {
        let each = 8192
        let ledgers = (0..<16).map { Ledger(queue: QueueID(UInt16($0)), capacity: each) }
        // Some queues are much busier than others.
        for (index, ledger) in ledgers.enumerated() {
            for number in 0..<each { ledger.append(record(UInt64(number * (index + 1)))) }
        }
        var reader = LedgerReader()
        var count = 0
        var last: UInt64 = 0
        var pages = 0
        var lost: UInt64 = 0
        while true {
            let piece = reader.read(ledgers, limit: 1000)
            #expect(piece.entries.count <= 1000 && !piece.entries.isEmpty)
            for entry in piece.entries {
                if entry.record.time < last { Issue.record("\(entry.record.time) after \(last)") }
                last = entry.record.time
            }
            (count, pages, lost) = (count + piece.entries.count, pages + 1, lost + piece.lost)
            if !piece.hasMore { break }
        }
        #expect(count == 16 * each && lost == 0)
        #expect(pages < 4000)
        #expect(reader.read(ledgers, limit: 1000).entries.isEmpty)
    }

    private struct Moment: TimedRecord { let time: UInt64 }
    private final class Clock: Sendable { let time = Mutex<UInt64>(0) }

    /// The two writers take turns as they come, so that each ring is empty at some looks and not at the next.
    @Test func `what comes while two queues are read is in the order of time, too`() {
        let each = 50_000
        let rings = (0..<2).map {
            RecordRing<Moment>(queue: QueueID(UInt16($0)), capacity: each)
        }
        let clock = Clock()
        var threads = ThreadList()
        for ring in rings {
            threads.start("test-writer") {
                let writer = ring.writer
                for _ in 0..<each {
                    clock.time.withLock { time in
                        time += 1
                        writer.append(Moment(time: time))
                    }
                }
            }
        }
        var reader = RecordReader<Moment>()
        var last: UInt64 = 0
        var misplaced = 0
        while last < UInt64(2 * each) {
            for entry in reader.read(rings, limit: 100_000).entries {
                if entry.record.time != last + 1 { misplaced += 1 }
                last = max(last, entry.record.time)
            }
        }
        threads.joinAll()
        #expect(misplaced == 0)
    }

    @Test func `a queue whose number of records is asked for nothing goes on where it was`() {
        let ledger = Ledger(queue: QueueID(0), capacity: 64)
        var reader = LedgerReader()
        for number in 0..<10 { ledger.append(record(UInt64(number))) }
        #expect(reader.read([ledger], limit: 4).entries.map(\.record.time) == [0, 1, 2, 3])
        var other = LedgerReader(from: reader.next)
        let piece = other.read([ledger], limit: 100)
        #expect(piece.entries.map(\.record.time) == [4, 5, 6, 7, 8, 9] && !piece.hasMore)
    }

    @Test func `what was overwritten is told by rule`() {
        let ledgers = (0..<2).map { Ledger(queue: QueueID(UInt16($0)), capacity: 16) }
        for ledger in ledgers {
            for number in 0..<100 {
                ledger.append(record(UInt64(number), rule: number < 70 ? 0 : 1))
            }
            ledger.append(record(100, rule: LedgerRecord.handler))
        }
        ledgers[0].append(record(101, rule: 3))
        for number in 0..<16 { ledgers[0].append(record(UInt64(number + 102), rule: 5000)) }
        for number in 0..<16 { ledgers[0].append(record(UInt64(number + 118), rule: 5000)) }
        var reader = LedgerReader()
        let piece = reader.read(ledgers, limit: 1000)
        #expect(piece.lost == 118 + 85 && piece.entries.count == 32)
        #expect(
            format().overwritten(ledgers)
                == "a.lua:2 bad 140, a.lua:5 45, other rules 16, a.lua handlers 1, b.lua:7 bad 1"
        )
        let line = format().overwrittenLine(piece.lost, ledgers)
        let decoded = JSON.decode(Overwritten.self, Array(line.utf8))
        #expect(decoded?.count == 203 && decoded?.action == "overwritten")
        #expect(decoded?.all.first?.who == "a.lua:2 bad" && decoded?.all.first?.count == 140)
    }

    private struct Overwritten: Codable {
        struct Rule: Codable {
            let who: String
            let count: UInt64
        }
        let action: String
        let count: UInt64
        let all: [Rule]
    }

    @Test(arguments: [
        (0, "0 ns"), (999, "999 ns"), (1000, "1 us"), (1_949_910_682, "1.95 s"),
        (50_000_000, "50 ms"), (1_500_000, "1.5 ms"), (123_456_789, "123 ms"), (12_345, "12.3 us"),
        (3_600_000_000_000, "3600 s"), (999_999_999, "1000 ms"),
    ])
    func `times have three digits`(nanoseconds: UInt64, text: String) {
        #expect(Rounded.time(nanoseconds) == text)
    }

    // MARK: Filters

    private func some() -> [LedgerRecord] {
        var records = (0..<8).map { record(UInt64($0) * 1_000_000_000) }
        for index in records.indices { records[index].offset = UInt64(index) * 4096 }
        records[0].rule = 0
        records[1].rule = 1
        records[2].rule = 3
        records[3].rule = LedgerRecord.handler
        records[4].rule = 2
        records[4].op = IOOp.write.rawValue
        records[5].kind = .scriptError
        records[5].rule = LedgerRecord.handler
        records[6].kind = .released
        records[7].op = IOOp.flush.rawValue
        (records[7].offset, records[7].length) = (0, 0)
        records[0].decision.outcome = UInt8(US_OUTCOME_FAIL.rawValue)
        records[1].decision.delay_ns = 5
        records[2].decision.outcome = UInt8(US_OUTCOME_FAIL.rawValue)
        records[2].decision.delay_ns = 5
        return records
    }

    @Test(arguments: [
        ([], [0, 1, 2, 3, 4, 5, 6, 7]),
        (["rule=bad"], [0, 2]),
        (["rule=5"], [1]),
        (["rule=bad", "rule=5"], [0, 1, 2]),
        (["rule=read()"], [3, 5]),
        (["rule=write()"], [4]),
        (["op=write"], [4]),
        (["op=write", "op=flush"], [4, 7]),
        (["action=fail"], [0, 2]),
        (["action=delay"], [1, 2]),
        (["action=script_error", "action=released"], [5, 6]),
        (["range=4K+4K"], [1]),
        (["range=4K+1"], [1]),
        (["range=0+4K", "range=12288+8K"], [0, 3, 4]),
        (["from=2s", "until=4s"], [2, 3, 4]),
        (["rule=bad", "action=delay"], [2]),
        (["op=read", "range=0+1G", "from=1s", "action=fail"], [2]),
    ])
    func `a filter lets through what fits all of it`(words: [String], wanted: [Int]) throws {
        let filter = try LedgerFilter(words)
        let records = some()
        let found = records.indices.filter { filter.admits(records[$0], rules: Self.rules) }
        #expect(found == wanted)
        #expect(filter.unknownRule(among: Self.rules) == nil)
    }

    @Test(arguments: [
        ("op=reed", "--op: \"reed\" is none: one of read, write"),
        ("action=failed", "--action: \"failed\" is none: one of fail, drop"),
        ("range=4K", "--range: \"4K\" is none: OFFSET+LENGTH, as in 8M+4K, is expected"),
        ("range=4K+0", "--range: \"4K+0\" is none"),
        ("range=-1+4K", "--range: \"-1+4K\" is none"),
        ("from=soon", "--from: \"soon\" is none: a time"),
        ("rule=", "--rule: \"\" is none"),
        ("until=1s", "--until: \"1s\" is none: a time that leaves --from before --until"),
    ])
    func `a filter that is none is refused`(word: String, why: String) {
        #expect { try LedgerFilter(["from=2s", word]) } throws: { "\($0)".hasPrefix(why) }
    }

    @Test func `a mark that was set after the end of the times wanted leaves nothing`() throws {
        var filter = try LedgerFilter(["until=2s"])
        filter.from = 3_000_000_000
        #expect(!some().contains { filter.admits($0, rules: Self.rules) })
    }

    @Test func `a name that no rule had is found out`() throws {
        let filter = try LedgerFilter(["rule=bad", "rule=cap"])
        #expect(filter.unknownRule(among: Self.rules) == "cap")
    }

    // MARK: A file

    private func written(
        _ directory: ScratchDirectory,
        _ body: ([Ledger]) -> Void
    ) throws -> [String] {
        let path = directory.file("ledger.json")
        let ledgers = (0..<2).map { Ledger(queue: QueueID(UInt16($0)), capacity: 64) }
        let file = try LedgerFile(path: path, newFiles: NewFiles())
        file.tell(format(isJSON: true))
        try file.start(ledgers, try LinePipe())
        body(ledgers)
        #expect(file.finish() == nil)
        return (contents(of: path) ?? "").split(separator: "\n").map(String.init)
    }

    @Test func `a file gets each record as a line, the last ones too`() throws {
        let directory = ScratchDirectory()
        let lines = try written(directory) { ledgers in
            for number in 0..<50 { ledgers[number % 2].append(record(UInt64(number), rule: 0)) }
        }
        #expect(lines.count == 50)
        #expect(lines.first?.hasPrefix("{\"t\":0,\"queue\":0,\"io\":0,\"op\":\"read\"") == true)
        #expect(lines.last?.hasPrefix("{\"t\":49,\"queue\":1,") == true)
    }

    @Test func `what the rings lost before it was written is a line of the file`() throws {
        let directory = ScratchDirectory()
        let lines = try written(directory) { ledgers in
            for number in 0..<200_000 { ledgers[0].append(record(UInt64(number), rule: 0)) }
        }
        var lost: UInt64 = 0
        var records: UInt64 = 0
        for line in lines {
            if let one = JSON.decode(Overwritten.self, Array(line.utf8)) {
                lost += one.count
            } else {
                records += 1
            }
        }
        #expect(lost > 0 && records > 0 && lost + records == 200_000)
    }

    @Test func `a file that has something in it, or is none, is not written to`() throws {
        let directory = ScratchDirectory()
        let path = directory.file("disk.img")
        directory.write("disk.img", "precious")
        #expect { try LedgerFile(path: path, newFiles: NewFiles()) } throws: {
            "\($0)".contains("disk.img is not empty")
        }
        #expect(contents(of: path) == "precious")
        let fifo = directory.file("fifo")
        try #require(unsafe mkfifo(fifo, 0o600) == 0)
        #expect(throws: DeviceError.self) { try LedgerFile(path: fifo, newFiles: NewFiles()) }
        #expect(throws: DeviceError.self) {
            try LedgerFile(path: "/dev/null", newFiles: NewFiles())
        }
        let newFiles = NewFiles()
        directory.write("empty", "")
        for name in ["new", "empty"] {
            _ = try LedgerFile(path: directory.file(name), newFiles: newFiles)
        }
        newFiles.removeAll()
        #expect(contents(of: directory.file("new")) == nil)
        #expect(contents(of: directory.file("empty")) == "")
    }
}
