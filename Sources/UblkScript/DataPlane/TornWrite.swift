import CLua

/// Which bytes of a write are stored, as `store(...)` in its decision says.
///
/// A write is cut into units, the last of which may be a short one. A pure function: chance comes from the decision's
/// seed only. Allocates nothing. Any thread.
struct TornWrite {
    static let segmentsMax = Int(US_SEGMENTS_MAX)

    private let keep: us_store_keep
    private let unit: UInt64
    private let units: UInt64
    private let kept: UInt64
    private let length: UInt64
    private var stream: SplitMix64

    /// - Parameter length: of the write, in bytes.
    init(_ decision: borrowing us_decision, length: UInt64) {
        let store = decision.store
        keep = us_store_keep(UInt32(store.keep))
        unit = UInt64(store.unit)
        units = (length + unit - 1) / unit
        self.length = length
        stream = SplitMix64(state: decision.store_seed)
        // At least one unit is lost, and one kept: the rest would be no torn write.
        let some =
            store.units != 0 ? UInt64(store.units) : units > 1 ? 1 + stream.below(units - 1) : 0
        kept = min(some, units)
    }

    /// The stored bytes, in one run of units; not for `random`.
    mutating func run() -> Range<UInt64> {
        switch keep {
        case US_STORE_ALL: return bytes(0, units)
        case US_STORE_NONE: return bytes(0, 0)
        case US_STORE_SUFFIX: return bytes(units - kept, kept)
        case US_STORE_MIDDLE: return bytes(stream.below(units - kept + 1), kept)
        default: return bytes(0, kept)
        }
    }

    private func bytes(_ first: UInt64, _ count: UInt64) -> Range<UInt64> {
        min(first * unit, length)..<min((first + count) * unit, length)
    }

    /// Calls `body` with the stored bytes for `random`: ascending stretches, at most ``segmentsMax``, none next to
    /// another.
    mutating func forEachSegment(_ body: (Range<UInt64>) -> Void) {
        let most = min(kept, units - kept + 1)  // segments
        var pending: Range<UInt64> = 0..<0
        let write = self
        func add(_ first: UInt64, _ count: UInt64) {
            guard count != 0 else { return }
            let next = write.bytes(first, count)
            if next.lowerBound == pending.upperBound, !pending.isEmpty {
                pending = pending.lowerBound..<next.upperBound
                return
            }
            if !pending.isEmpty { body(pending) }
            pending = next
        }
        if most <= Self.segmentsMax { keepAny(add) } else { keepRuns(add) }
        if !pending.isEmpty { body(pending) }
    }

    /// Every choice of so many units is equally likely: Knuth, TAOCP 2, 3.4.2, algorithm S.
    private mutating func keepAny(_ add: (UInt64, UInt64) -> Void) {
        var left = kept
        var place: UInt64 = 0
        while place < units, left > 0 {
            if stream.below(units - place) < left {
                add(place, 1)
                left -= 1
            }
            place += 1
        }
    }

    /// More than there may be: as many pieces as there may, of any length, with gaps of any length.
    private mutating func keepRuns(_ add: (UInt64, UInt64) -> Void) {
        unsafe withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 2 * Self.segmentsMax) {
            room in
            let ends = unsafe UnsafeMutableBufferPointer(rebasing: room[..<Self.segmentsMax])
            let gaps = unsafe UnsafeMutableBufferPointer(rebasing: room[Self.segmentsMax...])
            unsafe cut(ends, Self.segmentsMax - 1, kept)
            unsafe ends[Self.segmentsMax - 1] = kept
            unsafe cut(gaps, Self.segmentsMax, units - kept)
            var done: UInt64 = 0
            for index in 0..<Self.segmentsMax {
                unsafe add(gaps[index] + done, ends[index] - done)
                done = unsafe ends[index]
            }
        }
    }

    /// Where a stretch of so many units is cut into `count` + 1 parts, ascending.
    private mutating func cut(
        _ cuts: UnsafeMutableBufferPointer<UInt64>,
        _ count: Int,
        _ stretch: UInt64
    ) {
        for index in 0..<count {
            let new = stream.below(stretch + 1)
            var place = index
            while place > 0, unsafe cuts[place - 1] > new {
                unsafe cuts[place] = cuts[place - 1]
                place -= 1
            }
            unsafe cuts[place] = new
        }
    }
}

extension us_decision {
    /// Where an IO goes that is redirected: to the place, or so much further than its own.
    ///
    /// What would not fit the device goes as far the other way, or stays where it is.
    func redirected(_ offset: UInt64, _ length: UInt64, deviceBytes: UInt64) -> UInt64 {
        guard is_relative != 0 else { return to_offset }
        // Modulo 2^64.
        let there = offset &+ to_offset
        let other = offset &- to_offset
        if us_fits(there, length, deviceBytes) { return there }
        return us_fits(other, length, deviceBytes) ? other : offset
    }
}
