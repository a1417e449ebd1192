import Glibc
import Synchronization

/// Ends a process that waits for a load phase which nothing can end: stuck in a C function of Lua's, where hooks do not
/// reach.
///
/// For processes that have nothing to lose: the commands, which load every script before a server does, and a server
/// that has no device yet. One thread a load, while there is somebody to tell.
struct LoadWatch: ~Copyable {
    /// Told why; expected not to return.
    ///
    /// nil: nobody is watched.
    private static let onStuck = Mutex<(@Sendable (String) -> Void)?>(nil)

    static func setOnStuck(_ onStuck: (@Sendable (String) -> Void)?) {
        Self.onStuck.withLock { $0 = onStuck }
    }

    /// CPU time after which a load phase is stuck: hooks end one within half as much again as its limit.
    static func nanosecondsMax(limit: UInt64) -> UInt64 { limit + limit / 2 + 500_000_000 }

    private let ended = Promise<Bool>()
    private var thread: OSThread?

    init(_ name: String, limitNanoseconds: UInt64) {
        guard limitNanoseconds > 0, let onStuck = Self.onStuck.withLock({ $0 }) else { return }
        let ended = ended
        let clock = ThreadClock()
        let most = Self.nanosecondsMax(limit: limitNanoseconds)
        thread = OSThread(name: "load-watch") {
            while clock.nanoseconds < most {
                let left = Double(most - min(most, clock.nanoseconds)) / 1e9
                guard ended.wait(seconds: left + 0.1) == nil else { return }
            }
            onStuck(Self.text(name, limitNanoseconds: limitNanoseconds))
        }
    }

    mutating func end() {
        ended.fulfil(true)
        guard let thread = thread.take() else { return }
        thread.join()
    }

    static func text(_ name: String, limitNanoseconds: UInt64) -> String {
        "\(name): the load phase is over its \(Quantity.text(nanoseconds: limitNanoseconds)), stuck in a C function that cannot be interrupted: "
            + "a pattern of string.find, match, gmatch or gsub that takes for ever?"
    }
}

/// The CPU time of a thread since it made this; any thread may look while that one lives.
///
/// It stands still where the machine does, so a busy machine is nobody's fault.
struct ThreadClock: Sendable {
    private let clock: clockid_t
    private let start: UInt64

    init() {
        var clock = clockid_t()
        unsafe pthread_getcpuclockid(pthread_self(), &clock)
        self.clock = clock
        start = Self.now(clock)
    }

    var nanoseconds: UInt64 {
        let now = Self.now(clock)
        return now - min(now, start)
    }

    private static func now(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
