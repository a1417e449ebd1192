import CLua
import Testing

@testable import UblkScript

/// Sets of so many ranges that they are in several leaves (`Sources/CLua/spans.h`).
///
/// The model is the one of ``RangesTests``: one flag per byte.
@Suite struct LargeRangesTests {
    private typealias Dice = RangesTests.Dice

    // MARK: A model

    /// At most half as many ranges, so some dozens of leaves of at most 1024.
    private static let size: UInt64 = 1 << 16

    /// A set, what should be in it, and how to change both.
    private struct Pair {
        let set: RangeSet
        var flags = [Bool](repeating: false, count: Int(LargeRangesTests.size))

        init(_ set: RangeSet) { self.set = set }

        mutating func change(_ adds: Bool, _ start: UInt64, _ length: UInt64) {
            let length = min(length, LargeRangesTests.size - start)
            let isDone =
                adds
                ? set.add(start, length) : set.remove(start, length)
            #expect(isDone)
            for byte in start..<start + length { flags[Int(byte)] = adds }
        }

        /// Every other byte: thousands of ranges, or of holes.
        mutating func stripe(_ adds: Bool, _ start: UInt64, _ length: UInt64) {
            for byte in stride(from: start, to: min(start + length, LargeRangesTests.size), by: 2) {
                change(adds, byte, 1)
            }
        }

        mutating func clear() {
            #expect(set.clear())
            flags = [Bool](repeating: false, count: flags.count)
        }

        func agrees(from start: UInt64, length: UInt64) -> Bool {
            let length = min(length, LargeRangesTests.size - start)
            let isThere = flags[Int(start)..<Int(start + length)].contains(true)
            return set.overlaps(start, length) == isThere
        }

        var agrees: Bool {
            let runs = RangesTests.runs(flags)
            let hull = (runs.first.map { $0[0] }, runs.last.map { $0[0] + $0[1] })
            return RangesTests.intervals(set) == runs
                && set.count == runs.count
                && set.bytes == UInt64(flags.count { $0 })
                && RangesTests.hull(set) == hull
        }
    }

    /// Edits and questions.
    ///
    /// The whole set is compared after those that reach over leaves.
    ///
    /// - Parameter edited: called after each round.
    private func compare(
        _ shared: SharedObjects,
        seed: UInt64,
        _ edited: () -> Void = {}
    ) throws {
        var pair = Pair(try RangesTests.makeSet(shared))
        var dice = Dice(seed: seed)
        var most = 0
        for round in 0..<4000 {
            let start = dice.roll(Self.size)
            let kind = dice.roll(200)
            switch kind {
            case 0: pair.stripe(true, start, 12_000)
            case 1: pair.stripe(false, start, 12_000)
            case 2: pair.change(true, start, dice.roll(6000))
            case 3: pair.change(false, start, dice.roll(6000))
            case 4: if dice.roll(10) == 0 { pair.clear() }
            case 5..<100: pair.change(true, start, dice.roll(3))
            default: pair.change(false, start, dice.roll(3))
            }
            most = max(most, pair.set.count)
            edited()
            let isSame =
                pair.agrees(from: dice.roll(Self.size), length: dice.roll(5))
                && (kind > 4 || pair.agrees)
            guard isSame else {
                Issue.record("seed \(seed), round \(round), kind \(kind)")
                return
            }
        }
        #expect(pair.agrees, "seed \(seed)")
        #expect(most > 8 * 1024, "more than a few leaves; seed \(seed)")
        pair.change(false, 0, Self.size)
        #expect(pair.set.count == 0)
    }

    @Test func `a set of many leaves is what a bitmap says, edited in place`() throws {
        try compare(SharedObjects(queues: 1), seed: TestHost.seed(for: "large ranges, one queue"))
    }

    @Test func `a set of many leaves is what a bitmap says, with edits that publish`() throws {
        let shared = SharedObjects(queues: 2)
        shared.online(QueueID(1))
        try compare(shared, seed: TestHost.seed(for: "large ranges, two queues")) {
            shared.offline(QueueID(1))
            shared.online(QueueID(1))
        }
        shared.offline(QueueID(1))
    }

    // MARK: A million

    private static let million: UInt64 = 1 << 20

    /// A permutation of the numbers below ``million``, one for each odd factor.
    private static func scattered(_ number: UInt64, _ factor: UInt64) -> UInt64 {
        var place = number &* factor & (million - 1)
        place ^= place >> 10
        return place &* factor & (million - 1)
    }

    /// Calls `body` with 0, 1, ...; false when that takes so long that each call must cost what the set's size is.
    ///
    /// Time of this thread: the other tests have the CPUs, too.
    private static func isFast(_ count: UInt64, _ body: (UInt64) -> Void) -> Bool {
        let limit = SystemCall.threadCPUNanoseconds + 20_000_000_000
        for number in 0..<count {
            body(number)
            if number % 256 == 0, SystemCall.threadCPUNanoseconds > limit { return false }
        }
        return true
    }

    @Test func `a million ranges are loaded in any order, and edited beside queues, in seconds`()
        throws
    {
        let seed = TestHost.seed(for: "a million ranges")
        let shared = SharedObjects(queues: 2)
        let set = try RangesTests.makeSet(shared)
        var dice = Dice(seed: seed)
        let factor = dice.roll(Self.million) | 1
        let isLoaded = Self.isFast(Self.million) {
            set.add(Self.scattered($0, factor) * 8, 4)
        }
        try #require(isLoaded, "20 s are not enough to load; seed \(seed)")
        #expect(set.count == Int(Self.million))
        shared.online(QueueID(1))
        let isEdited = Self.isFast(10_000) { _ in
            let place = dice.roll(Self.million) * 8
            set.remove(place, 4)
            set.add(place + 1, 2)
            set.add(place, 4)
            shared.offline(QueueID(1))
            shared.online(QueueID(1))
        }
        #expect(isEdited, "20 s are not enough for 30,000 edits; seed \(seed)")
        #expect(set.count == Int(Self.million))
        #expect(set.bytes == Self.million * 4)
        var wrong = 0
        for place in stride(from: 0, to: Self.million * 8, by: 24) {
            let isSound =
                set.overlaps(place + 3, 1)
                && !set.overlaps(place + 4, 4)
            if !isSound { wrong += 1 }
        }
        #expect(wrong == 0, "seed \(seed)")
        shared.offline(QueueID(1))
    }
}
