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
    @safe
    private struct Pair {
        // Safety: the registry that the test keeps has it.
        let set: OpaquePointer
        var flags = [Bool](repeating: false, count: Int(LargeRangesTests.size))

        init(_ set: OpaquePointer) { unsafe self.set = unsafe set }

        mutating func change(_ adds: Bool, _ start: UInt64, _ length: UInt64) {
            let length = min(length, LargeRangesTests.size - start)
            let isDone =
                unsafe adds
                ? us_ranges_add(set, start, length) : us_ranges_remove(set, start, length)
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
            #expect(unsafe us_ranges_clear(set))
            flags = [Bool](repeating: false, count: flags.count)
        }

        func agrees(from start: UInt64, length: UInt64) -> Bool {
            let length = min(length, LargeRangesTests.size - start)
            let isThere = flags[Int(start)..<Int(start + length)].contains(true)
            return unsafe us_ranges_overlaps(set, start, length) == isThere
        }

        var agrees: Bool {
            let runs = RangesTests.runs(flags)
            let hull = (runs.first.map { $0[0] }, runs.last.map { $0[0] + $0[1] })
            return unsafe RangesTests.intervals(set) == runs
                && us_ranges_count(set) == runs.count
                && us_ranges_bytes(set) == UInt64(flags.count { $0 })
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
        var pair = unsafe Pair(try RangesTests.makeSet(shared))
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
            unsafe most = max(most, us_ranges_count(pair.set))
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
        #expect(unsafe us_ranges_count(pair.set) == 0)
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
    private static func isFast(_ count: UInt64, _ body: (UInt64) -> Void) -> Bool {
        let limit = ContinuousClock.now.advanced(by: .seconds(20))
        for number in 0..<count {
            body(number)
            if number % 256 == 0, ContinuousClock.now > limit { return false }
        }
        return true
    }

    @Test func `a million ranges are loaded in any order, and edited beside queues, in seconds`()
        throws
    {
        let seed = TestHost.seed(for: "a million ranges")
        let shared = SharedObjects(queues: 2)
        let set = unsafe try RangesTests.makeSet(shared)
        var dice = Dice(seed: seed)
        let factor = dice.roll(Self.million) | 1
        let isLoaded = Self.isFast(Self.million) {
            unsafe us_ranges_add(set, Self.scattered($0, factor) * 8, 4)
        }
        try #require(isLoaded, "20 s are not enough to load; seed \(seed)")
        #expect(unsafe us_ranges_count(set) == Int(Self.million))
        shared.online(QueueID(1))
        let isEdited = Self.isFast(10_000) { _ in
            let place = dice.roll(Self.million) * 8
            unsafe us_ranges_remove(set, place, 4)
            unsafe us_ranges_add(set, place + 1, 2)
            unsafe us_ranges_add(set, place, 4)
            shared.offline(QueueID(1))
            shared.online(QueueID(1))
        }
        #expect(isEdited, "20 s are not enough for 30,000 edits; seed \(seed)")
        #expect(unsafe us_ranges_count(set) == Int(Self.million))
        #expect(unsafe us_ranges_bytes(set) == Self.million * 4)
        var wrong = 0
        for place in stride(from: 0, to: Self.million * 8, by: 24) {
            let isSound =
                unsafe us_ranges_overlaps(set, place + 3, 1)
                && !us_ranges_overlaps(set, place + 4, 4)
            if !isSound { wrong += 1 }
        }
        #expect(wrong == 0, "seed \(seed)")
        shared.offline(QueueID(1))
    }
}
