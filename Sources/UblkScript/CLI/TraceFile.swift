import Glibc
import SystemPackage

/// The file of `-o`: a trace for Perfetto, complete after each step.
final class TraceFile {
    private let path: String
    private let fd: Int32
    private var trace = PerfettoTrace()

    /// Makes the file, or empties it; anything but a regular file is refused, as it is somebody's device.
    init(_ path: String) throws {
        self.path = path
        fd = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o644)
        guard fd >= 0 else { throw Failure("\(path): \(Errno(rawValue: Glibc.errno))") }
        var status = stat()
        guard unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw Failure("\(path): a regular file is expected for the trace")
        }
        guard ftruncate(fd, 0) == 0 else {
            throw Failure("\(path): \(Errno(rawValue: Glibc.errno))")
        }
    }

    deinit { if fd >= 0 { close(fd) } }

    func add(_ steps: some Sequence<TraceStep>) throws {
        var rest = steps.flatMap { trace.bytes($0) }[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe write(fd, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let errno = Errno(rawValue: count < 0 ? Glibc.errno : ENOSPC)
                throw Failure("\(path): \(errno) (\(errno.name)): the trace ends here")
            }
            rest = rest.dropFirst(count)
        }
    }
}
