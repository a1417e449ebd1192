import Glibc
import SystemPackage

/// A pipe for log lines from queue threads to the main thread, which writes the log.
///
/// A queue must never wait for a terminal or a disk, so the pipe does not block: a line that does not fit is dropped.
/// Lines are not mixed up, as a write of up to PIPE_BUF bytes is atomic. A line of the server begins with the byte of
/// its level; one of a script's `log()` has no level, and no control characters at all (`CLua/values.c`).
final class LinePipe: Sendable {
    let readFD: Int32
    /// Also given to the Lua states, whose `log()` writes to it directly.
    let writeFD: Int32
    static let lineBytesMax = 2048

    /// The severity of a line.
    enum Level: UInt8 {
        case info = 1
        case warning = 2
        case error = 3
    }

    struct Line: Equatable {
        let level: Level
        let text: String
    }

    init() throws(DeviceError) {
        do throws(Errno) { (readFD, writeFD) = try SystemCall.makePipe() } catch {
            throw .system(call: "pipe", path: "", error)
        }
    }

    deinit {
        close(readFD)
        close(writeFD)
    }

    /// Sends a line, cut to ``lineBytesMax``, or drops it; any thread.
    func write(_ level: Level, _ line: String) {
        let bytes =
            [level.rawValue] + line.utf8.prefix(Self.lineBytesMax - 2) + [UInt8(ascii: "\n")]
        _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(writeFD, $0.baseAddress, $0.count) }
    }

    /// Takes the complete lines that have arrived.
    ///
    /// Main thread.
    func takeLines() -> [Line] {
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe read(readFD, $0.baseAddress, $0.count)
            }
            guard got > 0 else { break }
            text += chunk.prefix(got)
            // A script that logs endlessly must not keep the main thread here.
            if text.count >= 1 << 20 { break }
        }
        return text.split(separator: UInt8(ascii: "\n")).map { bytes in
            let level = bytes.first.flatMap(Level.init)
            return Line(
                level: level ?? .info,
                text: String(decoding: bytes.dropFirst(level == nil ? 0 : 1), as: UTF8.self)
            )
        }
    }
}
