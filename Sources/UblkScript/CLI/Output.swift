import Glibc
import Synchronization
import SystemPackage

/// Standard output and standard error of a command.
///
/// Standard output is buffered, on a terminal by line. A failed write is a failure of the command, which ``flush()``
/// throws; output after it is dropped. Any thread.
enum Output {
    private struct Pending {
        var bytes: [UInt8] = []
        var failure: Errno?
    }
    private static let pending = Mutex(Pending())

    /// Opens `/dev/null` in place of each standard stream that the caller has closed; call before opening anything.
    ///
    /// Otherwise the next file to be opened, such as the driver's, would get that number and receive what is printed.
    static func occupyStreams() {
        for (fd, flags) in [
            (STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY),
        ]
        where fcntl(fd, F_GETFD) < 0 {
            // open() returns the lowest free number, which is `fd`.
            _ = unsafe open("/dev/null", flags)
        }
    }

    private static let pieceBytes = 64 << 10

    static func line(_ text: String) { put(text + "\n", atOnce: Terminal.output) }

    /// Prints lines that programs may parse: wrapped on a terminal, unchanged elsewhere.
    ///
    /// - Parameter style: style of the first word.
    static func record(_ text: String, painted style: Style? = nil) {
        let lines = Terminal.output ? Wrap.text(text) : text
        let word = lines.prefix { $0 != " " && $0 != "\n" }
        line((style?.paint(String(word)) ?? String(word)) + lines.dropFirst(word.count))
    }

    /// Prints without buffering.
    static func now(_ text: String) throws {
        put(text, atOnce: true)
        try flush()
    }

    /// Writes what is buffered.
    ///
    /// - Throws: ``Failure``, when not everything printed so far could be written.
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

    /// Prints to standard error, after the program's name; flushes standard output first.
    static func error(_ text: String) {
        pending.withLock { write(&$0) }
        let printable = Printable.text("ublk-script: " + text) + "\n"
        let lines = Terminal.errors ? Wrap.text(printable) : printable
        toErrors(Terminal.errors ? Style.paintPrefix(lines) : lines)
    }

    /// Writes to standard error, unchanged.
    static func toErrors(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count)
        }
    }

    private static func put(_ text: String, atOnce: Bool) {
        // A script's text must not send control sequences to the terminal; in files and pipes it is unchanged.
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

/// Which streams are terminals, and whether they take colours.
enum Terminal {
    /// Standard output is a terminal.
    static let output = isatty(STDOUT_FILENO) == 1
    /// Standard error is a terminal.
    static let errors = isatty(STDERR_FILENO) == 1

    /// Colours may be used: `NO_COLOR` is unset or empty, and the terminal is not `dumb`.
    static let hasColors = isUnset("NO_COLOR") && variable("TERM") != "dumb"

    private static func isUnset(_ name: String) -> Bool { variable(name)?.isEmpty ?? true }

    private static func variable(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe String(cString: value)
    }
}

/// Terminal styles (SGR sequences), applied only when the output is a terminal.
enum Style: String, CaseIterable {
    case good = "\u{1b}[32m"
    case bad = "\u{1b}[31m"
    case heading = "\u{1b}[1m"

    private static let end = "\u{1b}[0m"

    /// The only control sequences that are let through to a terminal.
    static let sequences = allCases.map(\.rawValue) + [end]

    func paint(_ text: String) -> String {
        Terminal.output && Terminal.hasColors ? rawValue + text + Self.end : text
    }

    /// Colours the program's name at the beginning of an error.
    static func paintPrefix(_ text: String) -> String {
        let name = "ublk-script:"
        guard Terminal.hasColors, text.hasPrefix(name) else { return text }
        return bad.rawValue + name + end + text.dropFirst(name.count)
    }
}
