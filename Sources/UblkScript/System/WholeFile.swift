import CUring
import Glibc
import SystemPackage

/// The whole content of a file, read once.
///
/// Any thread. A file is opened without blocking, so that a fifo that nobody writes, or a device, holds nothing up.
/// A pipe that somebody holds open is read to its end, however long that takes, as every program does: what writes it
/// may have to work first. The caller is told when nothing comes, so that it can say so.
enum WholeFile {
    static let silenceMilliseconds: Int32 = 2000

    /// The content of the file.
    struct Content {
        let bytes: [UInt8]
        /// A regular file, which can be read again; else a pipe, which cannot.
        let isRegular: Bool
    }

    enum Problem: Error {
        case cannotOpen(Errno)
        case cannotRead(Errno)
        /// The path names a directory, a device or a socket.
        case wrongKind
        case tooLong
        /// The path names a fifo without a writer.
        case nobodyWrites
    }

    /// - Parameters:
    ///   - takesPipe: what a shell makes of `<(...)` will do, too.
    ///   - whenSilent: called once, when nothing has come for ``silenceMilliseconds``.
    static func read(
        _ path: String,
        bytesMax: Int,
        takesPipe: Bool,
        whenSilent: () -> Void
    ) throws(Problem) -> Content {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard fd >= 0 else { throw .cannotOpen(Errno(rawValue: errno)) }
        defer { close(fd) }
        switch try kind(fd) {
        case S_IFREG: return try read(fd, bytesMax, isRegular: true, whenSilent)
        case S_IFIFO where takesPipe:
            let content = try read(fd, bytesMax, isRegular: false, whenSilent)
            guard !content.bytes.isEmpty else { throw .nobodyWrites }
            return content
        default: throw .wrongKind
        }
    }

    /// Standard input to its end, whatever it is.
    static func readInput(bytesMax: Int, whenSilent: () -> Void) throws(Problem) -> Content {
        guard try kind(STDIN_FILENO) != S_IFDIR else { throw .wrongKind }
        return try read(STDIN_FILENO, bytesMax, isRegular: false, whenSilent)
    }

    private static func kind(_ fd: Int32) throws(Problem) -> mode_t {
        var status = stat()
        guard unsafe fstat(fd, &status) == 0 else { throw .cannotRead(Errno(rawValue: errno)) }
        return status.st_mode & S_IFMT
    }

    private static func read(
        _ fd: Int32,
        _ bytesMax: Int,
        isRegular: Bool,
        _ whenSilent: () -> Void
    ) throws(Problem) -> Content {
        var bytes: [UInt8] = []
        var hasTold = false
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        func wait() {
            var event = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            if unsafe poll(&event, 1, hasTold ? -1 : silenceMilliseconds) == 0 {
                hasTold = true
                whenSilent()
                unsafe poll(&event, 1, -1)
            }
        }
        while true {
            // Another file is read first: the end of a fifo that nobody writes is no event.
            if fd == STDIN_FILENO { wait() }
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe Glibc.read(fd, $0.baseAddress, $0.count)
            }
            if got == 0 { return Content(bytes: bytes, isRegular: isRegular) }
            guard got > 0 else {
                if errno == EINTR { continue }
                guard errno == EAGAIN else { throw .cannotRead(Errno(rawValue: errno)) }
                wait()
                continue
            }
            bytes += chunk.prefix(got)
            guard bytes.count <= bytesMax else { throw .tooLong }
        }
    }
}
