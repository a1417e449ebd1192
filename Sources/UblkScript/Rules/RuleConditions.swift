import CLua

/// The matchers of a rule beyond op and range that keep no state of their own.
///
/// Plain data; each queue has its own copy. All conditions that are given must hold. Times are nanoseconds on the
/// device's clock, which starts when faults are armed.
struct RuleConditions {
    /// Bits of ``us_io/flags`` that must be set (`flagsSet`) and that must be clear (`flagsClear`).
    var flagsSet: UInt32 = 0
    var flagsClear: UInt32 = 0
    var lengthMin: UInt64 = 0
    var lengthMax = UInt64.max
    /// Divisor of the IO's offset; 0: any offset.
    var alignBytes: UInt64 = 0
    /// The queue and the tag of the IO; -1: any.
    var queue: Int32 = -1
    var tag: Int32 = -1
    /// The least number of IOs in flight on the queue, this one included.
    var depth = 0
    var window: Window?
    var after = Limit()
    var before = Limit()
    /// The cell of the device's state, whose value must be ``stateNumber``; nil: any state.
    var state: Cell?
    var stateNumber: Int64 = 0
    var content: Content?

    /// The time `from` ..< `to`, in every `period` unless that is 0.
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

    /// A moment in the device's life: when everything that is given here has been reached.
    struct Limit {
        /// Time on the device's clock; nil: not given.
        var time: UInt64?
        /// The number of IOs that have arrived, and of bytes that they asked for; nil: not given.
        var ops: UInt64?
        var bytes: UInt64?
        /// A mark that has been set; nil: not given.
        var mark: Cell?

        var needsTotals: Bool { ops != nil || bytes != nil }
        var isGiven: Bool { time != nil || needsTotals || mark != nil }

        /// True when everything that is given has been reached.
        @inline(__always)
        func isReached(_ moment: RuleMoment) -> Bool {
            if let time, moment.time < time { return false }
            if let ops, moment.ops <= ops { return false }
            if let bytes, moment.bytes < bytes { return false }
            if let mark, mark.value == 0 { return false }
            return true
        }
    }

    /// True when `before` is always reached by the time `after` is, so that the rule could never act.
    var endsBeforeItBegins: Bool {
        guard after.isGiven, before.mark == nil else { return false }
        let limits: [(end: UInt64?, start: UInt64?)] = [
            (before.time, after.time), (before.ops, after.ops), (before.bytes, after.bytes),
        ]
        let ends = limits.filter { $0.end != nil }
        // `before` is reached when all its limits are.
        return !ends.isEmpty && ends.allSatisfy { ($0.end ?? 0) <= $0.start ?? 0 }
    }

    /// What the data of a write must be.
    enum Content {
        case zero
        /// These bytes, the first `count` of `low` and `high`, at `offset` from the IO's first byte.
        case bytes(offset: UInt64, count: Int, low: UInt64, high: UInt64)
        /// The data has this ``DataHash``, as `io:hash()` returns it.
        case hash(UInt64)

        static let bytesMax = 16
    }

    /// True when every condition holds for the IO.
    func hold(_ io: us_io, _ moment: RuleMoment) -> Bool {
        // There are three failfast bits (device, transport, driver); any of them counts as failfast.
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

/// What rules may look at besides the IO itself, taken when the IO arrives.
@safe
struct RuleMoment {
    /// Nanoseconds on the device's clock, which starts when faults are armed.
    var time: UInt64 = 0
    /// IOs that have arrived on all queues, this one included, and the bytes of those before it; 0 unless some rule
    /// needs them.
    var ops: UInt64 = 0
    var bytes: UInt64 = 0
    /// IOs in flight on the queue, this one included.
    var inFlight = 0
    // Safety: the tag's buffer, at least as long as the IO; nil unless some rule compares data of this op.
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
