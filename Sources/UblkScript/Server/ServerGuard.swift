import Glibc
import SystemPackage

/// What is done when the server of a device dies that was added with `--restart`: another one is started.
///
/// The process beside the server (``OutsideProcess``) does it, as it sees the server's end at once and serves nothing
/// itself. It becomes `ublk-script recover`, which finds out by the driver and the record whether there is anything to
/// do: a device that was stopped or deleted is left alone. One thread.
struct ServerGuard: Equatable {
    let device: DeviceID
    /// How often the servers before died, each within ``quickSeconds`` of its beginning.
    let deaths: Int
    /// When the server was up, nanoseconds.
    let since: UInt64

    /// A server that dies so soon may die of what the next one meets, too.
    static let quickSeconds: UInt64 = 60
    /// Servers that die so soon, one after the other, until no further one is started.
    static let deathsMax = 5
    /// Whoever killed the server to stop or delete the device needs a moment for that.
    private static let pauseMicroseconds: UInt32 = 1_000_000

    /// The number of quick deaths with the one now; nil: these are enough.
    func deathsNow(at now: UInt64) -> Int? {
        let isQuick = now - min(now, since) < Self.quickSeconds * 1_000_000_000
        let count = isQuick ? deaths + 1 : 1
        return count > Self.deathsMax ? nil : count
    }

    /// Starts another server, in place of this program.
    func serveAgain(_ state: StateDirectory = .standard, clock: WaitClock = .machine) -> Never {
        let deaths = deathsNow(at: clock.now())
        usleep(Self.pauseMicroseconds)
        // A deleted device has no log, and its number may be another one's.
        let log = unsafe open(state.logPath(device), O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC)
        guard log >= 0 else { _exit(0) }
        func tell(_ text: String) {
            let line = "\(SystemCall.timestamp) warning \(text)\n"
            _ = StateDirectory.write(Array(line.utf8), to: log)
        }
        guard let deaths else {
            tell(
                "the server of device \(device) died \(Self.deathsMax) times, each within \(Self.quickSeconds) s: "
                    + "it is not started again; ublk-script recover \(device) does that"
            )
            _exit(1)
        }
        tell("the server of device \(device) died: another one is started")
        // What it says is for the log.
        dup2(log, STDERR_FILENO)
        let words = ["ublk-script", "recover", "\(device)", "--quiet", "--deaths=\(deaths)"]
        var argv = unsafe words.map { unsafe strdup($0) }
        unsafe argv.append(nil)
        unsafe execv("/proc/self/exe", argv)
        tell("it could not be started: \(Errno(rawValue: Glibc.errno))")
        _exit(1)
    }
}
