import CLua

/// The matchers of a rule that look at more than op and range, and have no memory of their own.
///
/// Plain data, a copy a queue. Everything given must hold; what is not given always holds. Times are
/// on the device's clock, which starts when faults are armed.
struct RuleConditions {
    /// Bits of `op_flags` that must be set (`flagsSet`) and that must be clear (`flagsClear`).
    var flagsSet: UInt32 = 0
    var flagsClear: UInt32 = 0
    var lengthMin: UInt64 = 0
    var lengthMax = UInt64.max
    /// Divisor of the IO's offset; 0: any offset.
    var alignBytes: UInt64 = 0
    /// -1: any.
    var queue: Int32 = -1
    var tag: Int32 = -1
    /// Least number of IOs that the queue has, this one included.
    var depth = 0
    var window: Window?
    var after = Limit()
    var before = Limit()
    /// The device's state must be the one with this number.
    var state: Cell?
    var stateNumber: Int64 = 0
    var content: Content?

    /// A stretch of time, repeated when `period` is not 0: `from` ..< `to`.
    struct Window {
        var from: UInt64 = 0
        var to = UInt64.max
        var period: UInt64 = 0

        @inline(__always)
        func contains(_ time: UInt64) -> Bool {
            let phase = period == 0 ? time : time % period
            return phase >= from && phase < to
        }
    }

    /// A moment of the device's life.
    struct Limit {
        /// Time on the device's clock; nil: not given.
        var time: UInt64?
        /// Number of IOs that arrived, and of bytes that they asked for; nil: not given.
        var ops: UInt64?
        var bytes: UInt64?
        var mark: Cell?

        var needsTotals: Bool { ops != nil || bytes != nil }
        var isGiven: Bool { time != nil || needsTotals || mark != nil }

        /// True when everything given has come.
        @inline(__always)
        func isReached(_ moment: RuleMoment) -> Bool {
            if let time, moment.time < time { return false }
            if let ops, moment.ops <= ops { return false }
            if let bytes, moment.bytes < bytes { return false }
            if let mark, mark.value == 0 { return false }
            return true
        }
    }

    /// `before` has come whenever `after` has.
    var endsBeforeItBegins: Bool {
        guard after.isGiven, before.mark == nil else { return false }
        let limits: [(end: UInt64?, start: UInt64?)] = [
            (before.time, after.time), (before.ops, after.ops), (before.bytes, after.bytes),
        ]
        let ends = limits.filter { $0.end != nil }
        // `before` has come when all that it names has.
        return !ends.isEmpty && ends.allSatisfy { ($0.end ?? 0) <= $0.start ?? 0 }
    }

    /// What the data of a write must be.
    enum Content {
        case zero
        /// These bytes, the first `count` of `low` and `high`, at `offset` from the IO's first byte.
        case bytes(offset: UInt64, count: Int, low: UInt64, high: UInt64)
        /// What `io:hash()` says of all of it.
        case hash(UInt64)

        static let bytesMax = 16
    }

    /// True when every condition holds for the IO.
    func hold(_ io: us_io, _ moment: RuleMoment) -> Bool {
        // Three bits say failfast, each for another layer; one is enough.
        let failFast = US_IO_FAILFAST.rawValue
        let flags = io.flags & failFast == 0 ? io.flags : io.flags | failFast
        guard flags & flagsSet == flagsSet, flags & flagsClear == 0,
            io.length >= lengthMin, io.length <= lengthMax,
            alignBytes == 0 || io.offset % alignBytes == 0,
            queue < 0 || Int32(io.queue) == queue, tag < 0 || Int32(io.tag) == tag,
            moment.inFlight >= depth
        else { return false }
        if let window, !window.contains(moment.time) { return false }
        if after.isGiven, !after.isReached(moment) { return false }
        if before.isGiven, before.isReached(moment) { return false }
        if let state, state.value != stateNumber { return false }
        if let content { return unsafe content.fits(moment.data, length: io.length) }
        return true
    }
}

/// What a rule may look at besides the IO itself.
@safe
struct RuleMoment {
    /// Nanoseconds since faults were armed.
    var time: UInt64 = 0
    /// IOs that arrived on all queues since then, this one included; bytes of those before it.
    var ops: UInt64 = 0
    var bytes: UInt64 = 0
    /// IOs that are with the queue, this one included.
    var inFlight = 0
    // Safety: the tag's buffer, at least the IO's length long; nil where there is none.
    var data: UnsafeRawPointer?
}

extension RuleConditions.Content {
    /// - Parameter data: `length` bytes.
    fileprivate func fits(_ data: UnsafeRawPointer?, length: UInt64) -> Bool {
        guard let data = unsafe data else { return false }
        switch self {
        case .zero:
            return unsafe UnsafeRawBufferPointer(start: data, count: Int(length)).allSatisfy {
                $0 == 0
            }
        case .hash(let hash): return unsafe DataHash.of(data, length: length) == hash
        case .bytes(let offset, let count, let low, let high):
            guard offset <= length, UInt64(count) <= length - offset else { return false }
            for index in 0..<count {
                let word = index < 8 ? low : high
                let wanted = UInt8(truncatingIfNeeded: word >> UInt64(index % 8 * 8))
                let found = unsafe (data + Int(offset) + index).load(as: UInt8.self)
                guard found == wanted else { return false }
            }
            return true
        }
    }
}
