import CLua
import Glibc
import Testing

@testable import UblkScript

/// The journal of the sets of ranges: what the next server of a device finds in it.
@Suite struct RangeJournalTests {
    private let scratch = ScratchDirectory()
    private var path: String { scratch.file("ranges") }

    private func new(reach: Int = RangeJournal.fileBytes.upperBound) throws -> RangeJournal {
        let count = RangeJournal.fileBytes.lowerBound
        let file = try MappedFile(making: path, count: count, reach: reach) { _ in true }
        return RangeJournal(file, path: path)
    }

    /// As the next server finds it.
    private func found(queues: Int = 1) throws -> SharedObjects {
        let file = try #require(try MappedFile(opening: path, counts: RangeJournal.fileBytes))
        return SharedObjects(queues: queues, journal: RangeJournal(file, path: path))
    }

    private static func contents(_ set: RangeSet?) -> [[UInt64]] {
        guard let set else { return [[.max]] }
        return (0..<set.count).compactMap { set.interval($0) }.map { [$0.start, $0.end] }
    }

    private static let long = String(repeating: "x", count: Int(US_NAME_BYTES_MAX))
    private static let owner = SharedObjects.Owner.script(bank: 1, queue: 3, number: 7)

    @Test func `sets are found again by their names and owners, with what was done to them`() throws
    {
        let first = SharedObjects(queues: 1, journal: try new())
        for (index, name) in ["a", "b", Self.long].enumerated() {
            let set = try #require(first.makeRanges(named: name))
            for number in 0..<10 { set.add(UInt64(number * 8192), UInt64(4096 + index)) }
        }
        first.ranges(named: "a")?.remove(8192, 3 * 8192)
        #expect(first.ranges(named: "b")?.clear() == true)
        #expect(first.ruleRanges(5, bank: 1, offset: 4096, length: 4096) != nil)
        first.makeRanges(of: Self.owner)?.add(1, 2)
        first.makeRanges(named: "")?.add(5, 1)
        let second = try found()
        #expect(second.rangesNames == ["a", "b", Self.long])
        for name in second.rangesNames {
            let same = Self.contents(second.ranges(named: name))
            #expect(same == Self.contents(first.ranges(named: name)), "\(name)")
        }
        #expect(Self.contents(second.makeRanges(of: .rule(bank: 1, number: 5))) == [[4096, 8192]])
        #expect(Self.contents(second.makeRanges(of: Self.owner)) == [[1, 3]])
        // It goes on where the first one was.
        second.ranges(named: "b")?.add(100, 1)
        second.makeRanges(named: "c")?.add(7, 1)
        let third = try found()
        #expect(Self.contents(third.ranges(named: "b")) == [[100, 101]])
        #expect(Self.contents(third.ranges(named: "c")) == [[7, 8]])
        #expect(Self.contents(third.ranges(named: "a")).count == 7)
    }

    @Test(arguments: [1, 2])
    func `after many edits the journal is no longer than it takes, and tells the same`(queues: Int)
        throws
    {
        let first = SharedObjects(queues: queues, journal: try new())
        first.ranges.edit { $0.journal?.belong(to: 5) }
        for queue in 0..<queues { first.online(QueueID(UInt16(queue))) }
        var random = SplitMix64(seed: TestHost.seed(for: "journal, \(queues) queues"))
        let names = ["a", "b", "c"]
        for _ in 0..<20_000 {
            let set = first.makeRanges(named: names[Int(random.below(3))])
            let (offset, length) = (random.below(200) * 4096, (1 + random.below(3)) * 4096)
            switch random.below(20) {
            case 0: _ = set?.clear()
            case 1...10: set?.add(offset, length)
            default: set?.remove(offset, length)
            }
        }
        var status = stat()
        let result = unsafe stat(path, &status)
        try #require(result == 0)
        #expect(status.st_size < 32 * 8000, "20,000 records are 640,000 bytes")
        let second = try found()
        #expect(second.rangesNames.sorted() == names)
        for name in names {
            let same = Self.contents(second.ranges(named: name))
            #expect(same == Self.contents(first.ranges(named: name)), "\(name)")
        }
        let file = try MappedFile(opening: path, counts: RangeJournal.fileBytes)
        #expect(file?.isOf(5) == true)
        #expect(DirectoryListing.names(scratch.path) == ["ranges"])
    }

    @Test func `a record that a dying server did not finish is none`() throws {
        let first = SharedObjects(queues: 1, journal: try new())
        let set = try #require(first.makeRanges(named: "a"))
        for number in 0..<3 { set.add(UInt64(number * 8192), 4096) }
        // Set and name, then three edits, after the head.
        let last = 32 + 64 + 2 * 32
        let file = try #require(try MappedFile(opening: path, counts: RangeJournal.fileBytes))
        unsafe file.bytes.storeBytes(of: 0, toByteOffset: last + 24, as: UInt64.self)
        let second = try found()
        #expect(Self.contents(second.ranges(named: "a")) == [[0, 4096], [8192, 12288]])
        second.ranges(named: "a")?.add(1 << 20, 1)
        let third = try found()
        #expect(
            Self.contents(third.ranges(named: "a"))
                == [[0, 4096], [8192, 12288], [1 << 20, 1 << 20 + 1]]
        )
        // A byte of an edit.
        unsafe file.bytes.storeBytes(of: 7, toByteOffset: last - 32 + 8, as: UInt8.self)
        let fourth = try found()
        #expect(Self.contents(fourth.ranges(named: "a")) == [[0, 4096]])
        withExtendedLifetime((second, third, fourth)) {}
    }

    @Test func `without room edits are done, and the journal is nobody's`() throws {
        let journal = try new(reach: 4096)
        let shared = SharedObjects(queues: 1, journal: journal)
        shared.ranges.edit { $0.journal?.belong(to: 5) }
        let set = try #require(shared.makeRanges(named: "a"))
        for number in 0..<1000 { #expect(set.add(UInt64(number * 8192), 4096)) }
        #expect(set.count == 1000)
        let file = try MappedFile(opening: path, counts: RangeJournal.fileBytes)
        #expect(file?.isOf(0) == true)
        shared.ranges.edit { $0.journal?.belong(to: 5) }
        #expect(file?.isOf(0) == true)
    }

    @Test func `loading a script on sets that go on changes none of them`() throws {
        let text = """
            local a, b = ranges("a"):add(0, 4096), ranges():add(0, 8192)
            ranges("c"):clear():add(5, 5):remove(7, 1)
            function ctl(word)
              if word then a:remove(0, 4096) b:add("1M", 1) end
              return a:bytes(), b:bytes()
            end
            """
        let first = SharedObjects(queues: 1, journal: try new())
        let harness = try ScriptHarness(text, shared: first)
        #expect(try harness.ctl("x") == "0\t8193")
        _ = first.ruleRanges(1, bank: 0, offset: 0, length: 4096)
        first.makeRanges(of: .rule(bank: 0, number: 1))?.remove(0, 512)
        let second = try found()
        let again = try ScriptHarness(text, shared: second, options: .init(goesOn: true))
        #expect(try again.ctl() == "0\t8193")
        #expect(Self.contents(second.ranges(named: "c")) == [[5, 7], [8, 10]])
        _ = second.ruleRanges(1, bank: 0, offset: 0, length: 4096, isKept: true)
        #expect(Self.contents(second.makeRanges(of: .rule(bank: 0, number: 1))) == [[512, 4096]])
        let third = try found()
        _ = try ScriptHarness(text, shared: third)
        #expect(third.ranges(named: "a")?.bytes == 4096, "otherwise it does")
    }
}
