import CLua

/// The matchers that look at what has happened to the IO's place before: `seen` and `age`.
///
/// Plain data, a copy a queue; the tables are shared by all queues. Units are 4 KiB.
@safe
struct RuleHistory {
    /// The access is the nth of a unit, among those that fit what the rule says besides; 0: not given.
    var seen: UInt8 = 0
    /// A unit was written at least so long ago, nanoseconds; 0: not given.
    var age: UInt64 = 0
    // Safety: of the shared registry, which outlives the rules; there from ``RuleSet/attach(_:bank:deviceBytes:)`` on.
    var counts: OpaquePointer?
    var times: OpaquePointer?

    @inline(__always)
    var isGiven: Bool { UInt64(seen) | age != 0 }

    /// True when both hold for the IO; counts it.
    @inline(never)
    func holds(_ io: UnsafePointer<us_io>, time: UInt64) -> Bool {
        let offset = unsafe io.pointee.offset
        let length = unsafe io.pointee.length
        if let times = unsafe times, unsafe us_history_age(times, offset, length, time) < age {
            return false
        }
        guard let counts = unsafe counts else { return true }
        return unsafe us_history_count(counts, offset, length, seen)
    }
}
