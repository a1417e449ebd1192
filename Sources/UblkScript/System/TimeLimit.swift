import CUring

/// A time limit for the work of another process or the kernel, which counts only time in which this process ran.
///
/// A machine may stand still: a host takes its virtual CPUs away, a laptop sleeps. Then nobody did
/// anything, and who looks at a clock blames the other side. So the one that waits looks every
/// ``stepNanoseconds``; a look that comes later than ``latestNanoseconds`` after the one before
/// came out of a standstill, which counts as that much and no more. One thread.
struct TimeLimit {
    static let stepNanoseconds: UInt64 = 100_000_000
    static let stepMilliseconds: Int32 = 100
    static let latestNanoseconds: UInt64 = 2 * stepNanoseconds

    private var left: UInt64
    private var lastLook: UInt64

    init(nanoseconds: UInt64, now: UInt64 = sys_monotonic_ns()) {
        left = nanoseconds
        lastLook = now
    }

    init(seconds: Double, now: UInt64 = sys_monotonic_ns()) {
        self.init(nanoseconds: UInt64(seconds * 1e9), now: now)
    }

    /// A look at the clock.
    ///
    /// - Returns: true when the time is over.
    mutating func isOver(now: UInt64 = sys_monotonic_ns()) -> Bool {
        let passed = min(now - min(now, lastLook), Self.latestNanoseconds)
        lastLook = now
        left -= min(left, passed)
        return left == 0
    }

    /// How long to wait until the next look.
    var nextLookNanoseconds: UInt64 { min(left, Self.stepNanoseconds) }
}
