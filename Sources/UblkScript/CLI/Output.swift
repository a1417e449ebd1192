import Glibc
import Synchronization
import SystemPackage

/// The two streams a command writes to.
///
/// Standard output is gathered and written in pieces, on a terminal line by line. What could not be
/// written is a failure of the command, reported by ``flush()``; what comes after it is dropped. Any
/// thread.
enum Output {
    private struct Pending {
        var bytes: [UInt8] = []
        var failure: Errno?
    }
    private static let pending = Mutex(Pending())

    /// Before anything else is opened: a stream that the caller closed is one that takes and gives nothing.
    ///
    /// Otherwise the next file that is opened, the driver's or a server's, would get its number, and what is printed.
    static func occupyStreams() {
        for (fd, flags) in [
            (STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY),
        ]
        where fcntl(fd, F_GETFD) < 0 {
            // The lowest free number, which is this one.
            _ = unsafe open("/dev/null", flags)
        }
    }

    private static let pieceBytes = 64 << 10

    static func line(_ text: String) { put(text + "\n", atOnce: Terminal.output) }

    /// Lines that programs read as well: broken at words on a terminal, whole everywhere else.
    ///
    /// - Parameter style: of its first word.
    static func record(_ text: String, painted style: Style? = nil) {
        let lines = Terminal.output ? Wrap.text(text) : text
        let word = lines.prefix { $0 != " " && $0 != "\n" }
        line((style?.paint(String(word)) ?? String(word)) + lines.dropFirst(word.count))
    }

    /// Writes at once, also into a pipe.
    static func now(_ text: String) throws {
        put(text, atOnce: true)
        try flush()
    }

    /// - Throws: ``Failure``, when not everything so far could be written.
    static func flush() throws {
        let failure = pending.withLock { pending in
            write(&pending)
            return pending.failure
        }
        guard let failure else { return }
        throw Failure(
            "standard output: \(failure) (\(failure.name)): what was to be printed is lost"
        )
    }

    /// On standard error, with the program's name, after what was printed before.
    static func error(_ text: String) {
        pending.withLock { write(&$0) }
        let printable = Printable.text("ublk-script: " + text) + "\n"
        let lines = Terminal.errors ? Wrap.text(printable) : printable
        toErrors(Terminal.errors ? Style.paintPrefix(lines) : lines)
    }

    /// On standard error, as it is.
    static func toErrors(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count)
        }
    }

    private static func put(_ text: String, atOnce: Bool) {
        // A script's own text must not drive the terminal; for a file or a pipe it stays as it is.
        let shown = Terminal.output ? Printable.text(text, allowing: Style.sequences) : text
        pending.withLock { pending in
            guard pending.failure == nil else { return }
            pending.bytes += shown.utf8
            if atOnce || pending.bytes.count >= pieceBytes { write(&pending) }
        }
    }

    private static func write(_ pending: inout Pending) {
        var rest = pending.bytes[...]
        while !rest.isEmpty, pending.failure == nil {
            let sent = unsafe rest.withUnsafeBytes {
                unsafe Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count)
            }
            if sent < 0, errno == EINTR { continue }
            if sent <= 0 { pending.failure = Errno(rawValue: errno) }
            rest = rest.dropFirst(max(0, sent))
        }
        pending.bytes.removeAll(keepingCapacity: true)
    }
}

/// Which streams a person looks at.
enum Terminal {
    /// Standard output is a terminal.
    static let output = isatty(STDOUT_FILENO) == 1
    /// Standard error is one.
    static let errors = isatty(STDERR_FILENO) == 1

    /// Colours are wanted there: neither `NO_COLOR` nor a terminal without them.
    static let hasColors = isUnset("NO_COLOR") && variable("TERM") != "dumb"

    private static func isUnset(_ name: String) -> Bool { variable(name)?.isEmpty ?? true }

    private static func variable(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe String(cString: value)
    }
}

/// Colours, on standard output when it is a terminal and nowhere else.
enum Style: String, CaseIterable {
    case good = "\u{1b}[32m"
    case bad = "\u{1b}[31m"
    case heading = "\u{1b}[1m"

    private static let end = "\u{1b}[0m"

    /// What is let through to a terminal.
    static let sequences = allCases.map(\.rawValue) + [end]

    func paint(_ text: String) -> String {
        Terminal.output && Terminal.hasColors ? rawValue + text + Self.end : text
    }

    /// The name of the program before an error.
    static func paintPrefix(_ text: String) -> String {
        let name = "ublk-script:"
        guard Terminal.hasColors, text.hasPrefix(name) else { return text }
        return bad.rawValue + name + end + text.dropFirst(name.count)
    }
}
