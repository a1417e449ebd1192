import CUring
import Glibc

/// What time it is, and a pause: the machine's, or a test's, in which time passes by pauses alone.
///
/// Any thread.
struct WaitClock: Sendable {
    /// Nanoseconds; never goes back.
    let now: @Sendable () -> UInt64
    let pause: @Sendable (_ milliseconds: UInt32) -> Void

    static let machine = WaitClock(
        now: { sys_monotonic_ns() },
        pause: { _ = usleep($0 * 1000) }
    )
}
