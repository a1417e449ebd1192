import CUring
import Glibc
import SystemPackage

/// The file of `-o`: a trace for Perfetto that ends between two packets, whatever ends the command or the room for it.
final class TraceFile {
    private let path: String
    private let fd: Int32
    private var trace = PerfettoTrace()
    /// Length of the file up to the last packet that is whole.
    private var completeBytes = 0

    /// Packets are written together up to about this length.
    private static let pieceBytes = 256 << 10

    /// Makes the file, or empties it.
    ///
    /// Anything but a regular file is refused, as it is somebody's device, and a file that somebody has locked, as it
    /// is a device's backing file or another trace.
    init(_ path: String) throws {
        self.path = path
        fd = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o644)
        guard fd >= 0 else { throw Failure("\(path): \(Errno(rawValue: Glibc.errno))") }
        var status = stat()
        guard unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw Failure("\(path): a regular file is expected for the trace")
        }
        guard flock(fd, LOCK_EX | LOCK_NB) == 0 || Glibc.errno != EWOULDBLOCK else {
            throw Failure(
                "\(path) is in use, as a device's backing file or by another trace: another file is expected"
            )
        }
        guard ftruncate(fd, 0) == 0 else {
            throw Failure("\(path): \(Errno(rawValue: Glibc.errno))")
        }
    }

    deinit { if fd >= 0 { close(fd) } }

    func add(_ steps: some Sequence<TraceStep>) throws {
        var packets: [UInt8] = []
        for step in steps {
            packets += trace.bytes(step)
            guard packets.count >= Self.pieceBytes else { continue }
            try add(packets)
            packets.removeAll(keepingCapacity: true)
        }
        try add(packets)
    }

    private func add(_ packets: [UInt8]) throws {
        // The signals that end the command come before or after it.
        let signals = HeldSignals([SIGINT, SIGTERM, SIGHUP])
        defer { signals.letGo() }
        var rest = packets[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe write(fd, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let errno = Errno(rawValue: count < 0 ? Glibc.errno : ENOSPC)
                ftruncate(fd, off_t(completeBytes))
                throw Failure("\(path): \(errno) (\(errno.name)): the trace ends here")
            }
            rest = rest.dropFirst(count)
        }
        completeBytes += packets.count
    }
}

/// Signals that this thread does not take for a while.
private struct HeldSignals {
    private var before = sigset_t()

    init(_ signals: [Int32]) {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for signal in signals { unsafe sigaddset(&set, signal) }
        unsafe pthread_sigmask(SIG_BLOCK, &set, &before)
    }

    func letGo() {
        var before = before
        unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    }
}
