import CLua
import Synchronization
import Testing

@testable import UblkScript

/// Sets of byte ranges against a model that cannot be wrong: one flag per byte.
///
/// And readers beside a writer.
@Suite struct RangesTests {
    /// A small generator with a seed: SplitMix64, the script's own.
    struct Dice {
        var stream: SplitMix64
        init(seed: UInt64) { stream = SplitMix64(seed: seed, queue: 0, stream: 0) }
        mutating func roll(_ count: UInt64) -> UInt64 { stream.next() % count }
    }

    /// The runs of true in `flags`.
    static func runs(_ flags: [Bool]) -> [[UInt64]] {
        var runs: [[UInt64]] = []
        for (index, flag) in flags.enumerated() where flag {
            if let last = runs.last, last[0] + last[1] == UInt64(index) {
                runs[runs.count - 1][1] += 1
            } else {
                runs.append([UInt64(index), 1])
            }
        }
        return runs
    }

    static func intervals(_ set: RangeSet) -> [[UInt64]] {
        var found: [[UInt64]] = []
        while let span = set.interval(found.count) {
            found.append([span.start, span.end - span.start])
        }
        return found
    }

    /// The first byte and the end of the last; nil for an empty set.
    static func hull(_ set: RangeSet) -> (UInt64?, UInt64?) {
        set.hull.map { ($0.start, $0.end) } ?? (nil, nil)
    }

    static func makeSet(_ shared: SharedObjects, _ name: String = "") throws
        -> RangeSet
    {
        try #require(name.isEmpty ? shared.ranges.makeSet() : shared.makeRanges(named: name))
    }

    /// Edits and questions, both sides compared after each.
    private func compare(_ shared: SharedObjects, seed: UInt64, rounds: Int) throws {
        let set = try Self.makeSet(shared)
        var flags = [Bool](repeating: false, count: 256)
        var dice = Dice(seed: seed)
        for round in 0..<rounds {
            let start = dice.roll(256)
            let length = min(dice.roll(dice.roll(4) == 0 ? 200 : 12), 256 - start)
            let bytes = Int(start)..<Int(start + length)
            switch dice.roll(40) {
            case 0:
                #expect(set.clear())
                flags = [Bool](repeating: false, count: 256)
            case 1..<22:
                #expect(set.add(start, length))
                for byte in bytes { flags[byte] = true }
            default:
                #expect(set.remove(start, length))
                for byte in bytes { flags[byte] = false }
            }
            let runs = Self.runs(flags)
            guard
                Self.hull(set) == (runs.first.map { $0[0] }, runs.last.map { $0[0] + $0[1] })
            else {
                Issue.record("hull: seed \(seed), round \(round)")
                return
            }
            let from = dice.roll(256)
            let count = min(dice.roll(30), 256 - from)
            let overlaps = set.overlaps(from, count)
            let isSame =
                Self.intervals(set) == runs
                && set.count == runs.count
                && set.bytes == UInt64(flags.count { $0 })
                && overlaps == flags[Int(from)..<Int(from + count)].contains(true)
            guard isSame else {
                Issue.record("seed \(seed), round \(round)")
                return
            }
        }
    }

    @Test func `a set is what a bitmap says, with one queue`() throws {
        let seed = TestHost.seed(for: "ranges, one queue")
        try compare(SharedObjects(queues: 1), seed: seed, rounds: 20_000)
    }

    @Test func `a set is what a bitmap says, with edits that publish copies`() throws {
        let seed = TestHost.seed(for: "ranges, two queues")
        let shared = SharedObjects(queues: 2)
        try compare(shared, seed: seed, rounds: 2000)
        shared.online(QueueID(1))
        try compare(shared, seed: seed &+ 1, rounds: 20_000)
        shared.offline(QueueID(1))
    }

    @Test func `neighbours are one interval and a hole makes two`() throws {
        let shared = SharedObjects(queues: 1)
        let set = try Self.makeSet(shared)
        #expect(set.add(0, 4096))
        #expect(set.add(4096, 4096))
        #expect(set.count == 1)
        #expect(set.remove(4095, 2))
        #expect(Self.intervals(set) == [[0, 4095], [4097, 4095]])
    }

    @Test func `the ends of 64 bits are in reach`() throws {
        let shared = SharedObjects(queues: 1)
        let set = try Self.makeSet(shared)
        #expect(set.add(.max - 10, 10))
        #expect(set.overlaps(.max - 1, 1))
        #expect(set.overlaps(.max - 1, .max), "the end is cut, not wrapped")
        #expect(!set.overlaps(.max, 1))
        #expect(!set.overlaps(0, .max - 10))
        #expect(set.overlaps(0, .max - 9))
        #expect(!set.add(.max, 2), "overflow")
        #expect(!set.remove(.max, 2), "overflow")
        #expect(set.count == 1)
        #expect(set.add(5, 0))
        #expect(set.count == 1, "nothing is nothing")
        #expect(set.add(0, .max))
        #expect(Self.intervals(set) == [[0, .max]])
    }

    @Test func `a name is one set, an empty name always a new one`() {
        let shared = SharedObjects(queues: 1)
        func address(_ name: String) -> RangeSet? {
            name.isEmpty ? shared.ranges.makeSet() : shared.makeRanges(named: name)
        }
        #expect(address("bad") == address("bad"))
        #expect(address("bad") != address("bad2"))
        #expect(address("") != address(""))
        #expect(address(String(repeating: "x", count: 64)) != nil)
        #expect(address(String(repeating: "x", count: 65)) == nil, "none")
    }

    @Test func `while no growth is counted every set lies in the hull it had`() throws {
        let seed = TestHost.seed(for: "ranges, growths")
        let shared = SharedObjects(queues: 1)
        let set = try Self.makeSet(shared)
        var dice = Dice(seed: seed)
        var growths = shared.ranges.growths
        var kept: (UInt64?, UInt64?) = (nil, nil)
        for round in 0..<20_000 {
            let start = dice.roll(1000)
            if dice.roll(2) == 0 {
                set.add(start, dice.roll(20))
            } else {
                set.remove(start, dice.roll(200))
            }
            let now = shared.ranges.growths
            let hull = Self.hull(set)
            if now != growths {
                growths = now
                kept = hull
            }
            let isInside =
                hull.0 == nil
                || (kept.0 ?? .max) <= (hull.0 ?? 0) && (kept.1 ?? 0) >= (hull.1 ?? .max)
            guard isInside else {
                Issue.record("seed \(seed), round \(round): \(hull) is not in \(kept)")
                return
            }
        }
    }

    @Test func `there is a limit to sets`() throws {
        let shared = SharedObjects(queues: 1)
        for _ in 0..<(1 << 16) { _ = shared.ranges.makeSet()?.add(0, 1) }
        #expect(shared.ranges.makeSet() == nil)
    }

    /// What the readers found; they must not call `#expect` in their loops.
    private final class Findings: Sendable {
        let looks = Atomic<Int>(0)
        let torn = Atomic<Int>(0)
        let isOver = Atomic<Bool>(false)
    }

    @Test func `readers beside a writer never see half an edit`() throws {
        let seed = TestHost.seed(for: "ranges, concurrent")
        let shared = SharedObjects(queues: Self.readers)
        let set = try Self.makeSet(shared, "read")
        // Of the same shape and elsewhere: memory of the first that is freed too early becomes one of
        // its copies, and a reader that was in the middle of a look finds what cannot be.
        let other = try Self.makeSet(shared, "other")
        for index in 0..<Self.intervalCount {
            #expect(set.add(index * 100, 50))
            #expect(other.add(index * 100 + 50, 50))
        }
        let findings = Findings()
        var threads = ThreadList()
        for queue in 0..<UInt16(Self.readers) {
            threads.start("test-reader") {
                Self.read(set, shared, QueueID(queue), seed, findings)
            }
        }
        while findings.looks.load(ordering: .relaxed) == 0 { TestHost.sleep(milliseconds: 1) }
        var dice = Dice(seed: seed)
        for round in 0..<4000 {
            if round % 1000 == 500 {
                Self.mergeAndSplit(set, from: 0)
                Self.mergeAndSplit(other, from: 50)
            }
            // Only odd hundreds change, and only between 60 and 90.
            let offset = (dice.roll(Self.intervalCount / 2) * 2 + 1) * 100 + 60
            set.add(offset, 30)
            other.remove(offset, 30)
            set.remove(offset, 30)
            other.add(offset, 30)
        }
        findings.isOver.store(true, ordering: .relaxed)
        threads.joinAll()
        #expect(findings.torn.load(ordering: .relaxed) == 0)
        #expect(findings.looks.load(ordering: .relaxed) > 1000)
        #expect(set.count == Int(Self.intervalCount))
        #expect(set.bytes == Self.intervalCount * 50)
        #expect(other.bytes == Self.intervalCount * 50)
    }

    /// More than the machine has CPUs, so that some are stopped in the middle of a look.
    private static let readers = 6
    private static let intervalCount: UInt64 = 5000
    /// Of these: what ``mergeAndSplit(_:from:)`` changes.
    private static let mergedCount: UInt64 = 2500

    /// Makes one of many, which are in several leaves, and then all of them again.
    ///
    /// Those that were there always are.
    private static func mergeAndSplit(_ set: RangeSet, from first: UInt64) {
        set.add(first, mergedCount * 100 - 50)
        for index in 0..<mergedCount - 1 {
            set.remove(first + index * 100 + 50, 50)
        }
    }

    /// A queue's turns: online, look at what never changes, offline.
    private static func read(
        _ set: RangeSet,
        _ shared: SharedObjects,
        _ queue: QueueID,
        _ seed: UInt64,
        _ findings: Findings
    ) {
        var dice = Dice(seed: seed &+ UInt64(queue.rawValue) &+ 1)
        while !findings.isOver.load(ordering: .relaxed) {
            shared.online(queue)
            for _ in 0..<100 {
                let index = dice.roll(intervalCount)
                let base = index * 100
                let isSound =
                    set.overlaps(base + dice.roll(50), 1)
                    && (index < mergedCount
                        || !set.overlaps(base + 50 + dice.roll(10), 1))
                    && set.count - Int(intervalCount) <= 1
                if !isSound { findings.torn.wrappingAdd(1, ordering: .relaxed) }
                findings.looks.wrappingAdd(1, ordering: .relaxed)
            }
            shared.offline(queue)
        }
    }
}
