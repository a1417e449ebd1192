import CLua

/// The matchers that depend on earlier IOs to the same blocks of 4 KiB: `seen` and `age`.
///
/// Plain data; each queue has its own copy. The tables are shared by all queues.
struct RuleHistory {
    /// The IO is the nth access to one of its blocks, among those that match everything else; 0: not given.
    var seen: UInt8 = 0
    /// One of the IO's blocks was last written at least this many nanoseconds ago; 0: not given.
    var age: UInt64 = 0
    // Tables of the shared objects, which outlive the rules; set by ``RuleSet/attach(_:bank:deviceBytes:)``.
    /// For ``seen``: how often each block was accessed.
    var counts: HistoryTable<UInt8>?
    /// For ``age``: when each block was last written.
    var times: HistoryTable<UInt64>?

    @inline(__always)
    var isGiven: Bool { UInt64(seen) | age != 0 }

    /// Counts the IO for `seen`, unless `age` rules it out; true when both match.
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
