import Glibc
import Logging
import Synchronization
import SystemPackage

/// Where a server's log lines go: the terminal, or a file of bounded size.
///
/// A file that reaches its limit becomes `NAME.1`, replacing the one before, and a new one is
/// begun: at most twice the limit is ever used. Any thread.
final class LogSink: Sendable {
    static let fileBytesMax = 4 << 20

    private struct File {
        var fd: Int32
        var bytes: Int
    }
    private let path: String?
    private let file: Mutex<File>

    /// The terminal: standard error.
    init() {
        path = nil
        file = Mutex(File(fd: STDERR_FILENO, bytes: 0))
    }

    /// A new file at `path`.
    init(path: String) throws(DeviceError) {
        self.path = path
        file = Mutex(File(fd: try Self.create(path), bytes: 0))
    }

    deinit {
        if path != nil { file.withLock { _ = close($0.fd) } }
    }

    func write(_ line: String) {
        file.withLock { file in
            if let path, file.bytes > Self.fileBytesMax {
                unsafe rename(path, path + ".1")
                if let fd = try? Self.create(path) {
                    close(file.fd)
                    file = File(fd: fd, bytes: 0)
                }
            }
            let bytes = Array((line + "\n").utf8)
            let written = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.write(file.fd, $0.baseAddress, $0.count)
            }
            file.bytes += max(0, written)
        }
    }

    private static func create(_ path: String) throws(DeviceError) -> Int32 {
        let fd = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0o600)
        guard fd >= 0 else {
            throw .system(call: "create", path: path, Errno(rawValue: Glibc.errno))
        }
        return fd
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
        sink.write("\(SystemCall.timestamp) \(event.level) \(event.message)")
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
