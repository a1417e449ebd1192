import Glibc
import Logging
import Synchronization
import SystemPackage

/// Where a server's log lines go: the terminal, or a file of bounded size.
///
/// A file that reaches its limit becomes `NAME.1`, replacing the one before, and a new one is
/// begun: at most twice the limit is ever used. A line that cannot be written (a full disk, a limit
/// of the caller's shell on the size of files) is lost, and the next one that can be says how many
/// were. Any thread.
final class LogSink: Sendable {
    static let fileBytesMax = 4 << 20

    private struct File {
        var fd: Int32
        var bytes = 0
        var lost = 0
        var reason = Errno.noSpace
    }
    private let path: String?
    private let file: Mutex<File>

    /// A file that is open already: the terminal.
    init(fd: Int32 = STDERR_FILENO) {
        path = nil
        file = Mutex(File(fd: fd))
    }

    /// A new file at `path`.
    init(path: String) throws(DeviceError) {
        self.path = path
        file = Mutex(File(fd: try StateDirectory.createFile(path, 0o600)))
    }

    deinit {
        if path != nil { file.withLock { _ = close($0.fd) } }
    }

    func write(_ line: String) {
        file.withLock { file in
            if file.bytes > Self.fileBytesMax { rotate(&file) }
            if file.lost > 0 {
                // Behind what a write that fell short has left.
                let note =
                    "\n\(SystemCall.timestamp) warning \(file.lost) lines of this log were lost: "
                guard append(note + "\(file.reason.name)", &file) else { return file.lost += 1 }
                file.lost = 0
            }
            if append(line, &file) { return }
            // The caller's limit on the size of a file, less than ours: a new one has room.
            if file.reason == .fileTooLarge || file.reason == .noSpace, file.bytes > 0 {
                rotate(&file)
                if append(line, &file) { return }
            }
            file.lost += 1
        }
    }

    private func append(_ line: String, _ file: inout File) -> Bool {
        let bytes = Array((line + "\n").utf8)
        if let errno = StateDirectory.write(bytes, to: file.fd) {
            file.reason = errno
            return false
        }
        file.bytes += bytes.count
        return true
    }

    private func rotate(_ file: inout File) {
        guard let path else { return }
        unsafe rename(path, path + ".1")
        guard let fd = try? StateDirectory.createFile(path, 0o600) else { return }
        close(file.fd)
        file.fd = fd
        file.bytes = 0
    }
}

/// Formats log lines: `2026-11-21T11:00:00.123Z warning text`.
struct LineLogHandler: LogHandler {
    let sink: LogSink
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        sink.write(Printable.text("\(SystemCall.timestamp) \(event.level) \(event.message)"))
    }
}

/// A log that exists later than those who may have to write to it.
///
/// Any thread.
final class SinkBox: Sendable {
    private let sink = Mutex<LogSink?>(nil)
    func set(_ sink: LogSink) { self.sink.withLock { $0 = sink } }
    func write(_ line: String) { sink.withLock { $0 }?.write(line) }
}
