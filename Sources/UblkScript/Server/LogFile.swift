import Glibc
import Logging
import Synchronization
import SystemPackage

/// The destination of a server's log: the terminal, or a file of bounded size.
///
/// A file that reaches ``fileBytesMax`` is renamed to `NAME.1`, replacing the previous one, and a new file is begun, so
/// at most twice the limit is used. A line that cannot be written (full disk, RLIMIT_FSIZE) is lost; the next line that
/// can be written is preceded by the number of lost ones. Any thread.
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

    /// Logs to a file that is already open: the terminal.
    init(fd: Int32 = STDERR_FILENO) {
        path = nil
        file = Mutex(File(fd: fd))
    }

    /// Logs to a new file at `path`.
    ///
    /// - Parameter continues: goes on with the file that is there, if any.
    init(path: String, continues: Bool = false) throws(DeviceError) {
        self.path = path
        let old =
            continues
            ? unsafe open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1
        guard old >= 0 else {
            file = Mutex(File(fd: try StateDirectory.createFile(path, 0o600)))
            return
        }
        file = Mutex(File(fd: old, bytes: max(0, Int(lseek(old, 0, SEEK_END)))))
    }

    deinit {
        if path != nil { file.withLock { _ = close($0.fd) } }
    }

    func write(_ line: String) {
        file.withLock { file in
            if file.bytes > Self.fileBytesMax { rotate(&file) }
            if file.lost > 0 {
                // On a line of its own, after what a short write may have left.
                let note =
                    "\n\(SystemCall.timestamp) warning \(file.lost) lines of this log were lost: "
                guard append(note + "\(file.reason.name)", &file) else { return file.lost += 1 }
                file.lost = 0
            }
            if append(line, &file) { return }
            // RLIMIT_FSIZE may be less than our limit; a new file has room then.
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

/// A log that is opened later; lines that are written before are dropped.
///
/// Any thread.
final class SinkBox: Sendable {
    private let sink = Mutex<LogSink?>(nil)
    func set(_ sink: LogSink) { self.sink.withLock { $0 = sink } }
    func write(_ line: String) { sink.withLock { $0 }?.write(line) }
}
