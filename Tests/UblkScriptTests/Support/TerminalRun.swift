import Glibc

@testable import UblkScript

/// One run of the program that was built beside these tests, on a terminal of its own.
///
/// The terminal is a pseudo terminal, which the program's session controls: what is typed can interrupt it.
struct TerminalRun {
    /// What is typed, and when.
    struct Typing {
        /// The terminal has shown it.
        let after: String
        /// As the keys give it: `\u{3}` is Ctrl-C.
        let keys: String
    }

    /// Of a program that hangs: it is killed then.
    private static let patienceSeconds: UInt64 = 120

    let exitCode: Int32
    /// What the terminal was sent, `\n` for `\r\n`.
    let shown: String
    /// What went into files instead, by descriptor.
    let files: [Int32: String]

    /// - Parameters:
    ///   - environment: added to this process's, without `NO_COLOR` and with a `TERM` that has colours.
    ///   - filed: which of the descriptors 1 and 2 are files and not the terminal.
    init(
        _ words: [String],
        in directory: ScratchDirectory,
        environment: [String: String] = [:],
        filed: [Int32] = [],
        typing: Typing? = nil
    ) {
        let (master, name) = Self.openTerminal()
        defer { close(master) }
        // Until the program has it: a terminal that nobody has open is at its end.
        let slave = unsafe open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)
        let pid = Self.spawn(words, name, directory, environment, filed)
        close(slave)
        shown = Self.follow(master, pid, typing)
        var status: Int32 = 0
        while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
        exitCode = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
        files = filed.reduce(into: [:]) { $0[$1] = contents(of: directory.file(".fd\($1)")) ?? "" }
    }

    /// The lines that the terminal shows in the end, without colours.
    var lines: [String] {
        var text = shown
        for sequence in Style.sequences { text = text.replacing(sequence, with: "") }
        // What was before a return is overwritten.
        return text.split(separator: "\n", omittingEmptySubsequences: false)
            .map { String($0.split(separator: "\r", omittingEmptySubsequences: false).last ?? "") }
    }

    private static func openTerminal() -> (master: Int32, name: String) {
        let master = unsafe open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var number: UInt32 = 0
        var locks: Int32 = 0
        // TIOCGPTN and TIOCSPTLCK, which the C library hides from Swift.
        precondition(
            unsafe ioctl(master, 0x8004_5430, &number) == 0
                && ioctl(master, 0x4004_5431, &locks) == 0,
            "no pseudo terminal"
        )
        return (master, "/dev/pts/\(number)")
    }

    private static func spawn(
        _ words: [String],
        _ terminal: String,
        _ directory: ScratchDirectory,
        _ environment: [String: String],
        _ filed: [Int32]
    ) -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        // The first one makes it the session's terminal.
        for fd in Int32(0)...2 {
            let path = filed.contains(fd) ? directory.file(".fd\(fd)") : terminal
            let flags = filed.contains(fd) ? O_WRONLY | O_CREAT | O_TRUNC : O_RDWR
            unsafe posix_spawn_file_actions_addopen(&actions, fd, path, flags, 0o600)
        }
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        // Whoever runs the tests may ignore what Ctrl-C sends.
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, SIGINT)
        unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
        // POSIX_SPAWN_SETSID, which the C library hides as well, and POSIX_SPAWN_SETSIGDEF.
        unsafe posix_spawnattr_setflags(&attributes, 0x80 | 0x04)
        let program = ProgramRun.program ?? ""
        var argv = unsafe ([program] + words).map { unsafe strdup($0) }
        unsafe argv.append(nil)
        var variables = unsafe all(with: environment).map { unsafe strdup($0) }
        unsafe variables.append(nil)
        defer { unsafe (argv + variables).forEach { unsafe free($0) } }
        var pid = pid_t()
        let result = unsafe posix_spawn(&pid, program, &actions, &attributes, argv, variables)
        precondition(result == 0, "posix_spawn: \(result)")
        return pid
    }

    private static func all(with more: [String: String]) -> [String] {
        let own = (contents(of: "/proc/self/environ") ?? "").split(separator: "\0")
            .map(String.init)
        var environment = ["TERM": "xterm"]
        environment.merge(more) { $1 }
        return own.filter { variable in
            let name = String(variable.prefix { $0 != "=" })
            return name != "NO_COLOR" && environment[name] == nil
        } + environment.map { "\($0)=\($1)" }
    }

    /// Everything that the terminal gets until the program has closed it.
    private static func follow(_ master: Int32, _ pid: pid_t, _ typing: Typing?) -> String {
        var bytes: [UInt8] = []
        var text: String { String(decoding: bytes, as: UTF8.self) }
        var chunk = [UInt8](repeating: 0, count: 65536)
        var hasTyped = false
        let limit = SystemCall.monotonicNanoseconds + patienceSeconds * 1_000_000_000
        while true {
            var event = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
            guard unsafe poll(&event, 1, 1000) > 0 else {
                if SystemCall.monotonicNanoseconds > limit { kill(pid, SIGKILL) }
                continue
            }
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe read(master, $0.baseAddress, $0.count)
            }
            if got < 0, errno == EINTR { continue }
            guard got > 0 else { break }
            bytes += chunk.prefix(got)
            if let typing, !hasTyped, text.contains(typing.after) {
                hasTyped = true
                let keys = Array(typing.keys.utf8)
                _ = unsafe keys.withUnsafeBytes { unsafe write(master, $0.baseAddress, $0.count) }
            }
        }
        return text.replacing("\r\n", with: "\n")
    }
}
