import CLua

/// The matchers that look at what has happened to the IO's place before: `seen` and `age`.
///
/// Plain data, a copy a queue; the tables are shared by all queues. Units are 4 KiB.
struct RuleHistory {
    /// The access is the nth of a unit, among those that fit what the rule says besides; 0: not given.
    var seen: UInt8 = 0
    /// A unit was written at least so long ago, nanoseconds; 0: not given.
    var age: UInt64 = 0
    /// Of the shared objects, which outlive the rules; there from ``RuleSet/attach(_:bank:deviceBytes:)`` on.
    var counts: HistoryTable<UInt8>?
    var times: HistoryTable<UInt64>?

    @inline(__always)
    var isGiven: Bool { UInt64(seen) | age != 0 }

    /// True when both hold for the IO; counts it.
    @inline(never)
    func holds(_ io: UnsafePointer<us_io>, time: UInt64) -> Bool {
        let offset = unsafe io.pointee.offset
        let length = unsafe io.pointee.length
        if let times, times.age(offset: offset, length: length, time: time) < age {
            return false
        }
        guard let counts else { return true }
        return counts.count(offset: offset, length: length, nth: seen)
    }
}
