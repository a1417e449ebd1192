import CUring
import Glibc
import Synchronization
import SystemPackage

/// A watchdog of one load phase: ends the process when the script is stuck in a C function of Lua's library, where
/// hooks cannot interrupt it.
///
/// For processes that serve nothing: the commands, which load every script before a server does, and a server that has
/// no device yet. One thread per load, only while ``setOnStuck(_:)`` has set a function.
struct LoadWatch: ~Copyable {
    /// Called with the reason when a load is stuck, and expected not to return; nil: loads are not watched.
    private static let onStuck = Mutex<(@Sendable (String) -> Void)?>(nil)

    /// Sets what to do when a load is stuck, for all loads that begin from now on; any thread.
    static func setOnStuck(_ onStuck: (@Sendable (String) -> Void)?) {
        Self.onStuck.withLock { $0 = onStuck }
    }

    /// The CPU time after which a load phase is taken to be stuck; hooks end others within one and a half limits.
    static func nanosecondsMax(limit: UInt64) -> UInt64 { limit + limit / 2 + 500_000_000 }

    private let ended = Promise<Bool>()
    private var thread: OSThread?

    /// Starts watching the calling thread, if loads are watched.
    ///
    /// - Parameter limitNanoseconds: the limit of the load phase; 0: none.
    /// - Throws: when loads are watched and there is no thread for it.
    init(_ name: String, limitNanoseconds: UInt64) throws(ScriptError) {
        guard limitNanoseconds > 0, let onStuck = Self.onStuck.withLock({ $0 }) else { return }
        let ended = ended
        let clock = ThreadClock()
        let most = Self.nanosecondsMax(limit: limitNanoseconds)
        do throws(Errno) {
            thread = try OSThread(trying: "load-watch") {
                while clock.nanoseconds < most {
                    let left = Double(most - min(most, clock.nanoseconds)) / 1e9
                    guard ended.wait(seconds: left + 0.1) == nil else { return }
                }
                onStuck(Self.text(name, limitNanoseconds: limitNanoseconds))
            }
        } catch {
            throw ScriptError(
                status: .memory,
                text:
                    "\(name): no thread can be made to watch the load phase (\(error.name)). See: ulimit -v, ulimit -u"
            )
        }
    }

    /// Ends the watch; the load phase is over.
    mutating func end() {
        ended.fulfil(true)
        guard let thread = thread.take() else { return }
        thread.join()
    }

    /// The error text of a stuck load.
    static func text(_ name: String, limitNanoseconds: UInt64) -> String {
        "\(name): the load phase is over its \(Quantity.text(nanoseconds: limitNanoseconds)), stuck in a C function that cannot be interrupted: "
            + "a pattern of string.find, match, gmatch or gsub that takes for ever?"
    }
}

/// The CPU time of the thread that made this, since then; any thread may read it while that thread lives.
///
/// CPU time, so that a thread is not blamed for the time in which it was not scheduled.
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
