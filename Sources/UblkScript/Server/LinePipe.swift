import Glibc
import SystemPackage

/// Lines of text from queue threads to the main thread, which writes the log.
///
/// A queue must never wait for a terminal or a disk, so the pipe does not block: a line that does
/// not fit is dropped. A write of up to PIPE_BUF bytes arrives whole. A line of the server's begins with
/// the byte of its level; one of a script's `log()` has none, nor any other control character (`CLua/values.c`).
final class LinePipe: Sendable {
    let readFD: Int32
    /// Given to the Lua states too, whose `log()` writes lines itself.
    let writeFD: Int32
    static let lineBytesMax = 2048

    /// How much a line matters.
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
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else {
            throw .system(call: "pipe", path: "", Errno(rawValue: Glibc.errno))
        }
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        readFD = ends[0]
        writeFD = ends[1]
    }

    deinit {
        close(readFD)
        close(writeFD)
    }

    /// Any thread.
    func write(_ level: Level, _ line: String) {
        let bytes =
            [level.rawValue] + line.utf8.prefix(Self.lineBytesMax - 2) + [UInt8(ascii: "\n")]
        _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(writeFD, $0.baseAddress, $0.count) }
    }

    /// The whole lines that are waiting.
    ///
    /// The main thread only.
    func takeLines() -> [Line] {
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe read(readFD, $0.baseAddress, $0.count)
            }
            guard got > 0 else { break }
            text += chunk.prefix(got)
            // A script that logs without end must not keep the main thread here.
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
