import Glibc
import SystemPackage

/// A device's bytes in a file or on a block device.
///
/// Opened once; queues reach it through their rings.
final class FileStore: Sendable {
    let path: String
    let fd: Int32
    /// Bytes the backing has: the file's size, or the block device's.
    let sizeBytes: UInt64
    /// True when this object made the file.
    let isNew: Bool

    enum Problem: Error, CustomStringConvertible {
        case system(call: String, path: String, Errno)
        case tooSmall(path: String, has: UInt64, needs: UInt64)
        case notAFile(path: String)
        case inUse(path: String)
        case noSize(path: String)

        var description: String {
            switch self {
            case .system(let call, let path, let errno):
                "backing file \(path): \(call) failed: \(errno) (\(errno.name))"
            case .tooSmall(let path, let has, let needs):
                """
                backing file \(path) has \(has) bytes, the device needs \(needs): it is never grown or cut by add. \
                Give a smaller size, or enlarge it: truncate -s \(needs) \(path)
                """
            case .inUse(let path):
                "backing file \(path) is in use: another device has it, or it is mounted"
            case .notAFile(let path):
                "backing file \(path) is neither a regular file nor a block device"
            case .noSize(let path):
                "backing file \(path) does not exist, and no size is given to make it with: add size = \"1G\""
            }
        }
    }

    /// Opens `path`, or makes it `sizeBytes` long (sparse) when it does not exist.
    ///
    /// An existing file is never changed here: one that is too small is refused. What was made is
    /// unmade by ``removeIfNew()`` when the device does not come up.
    init(path: String, sizeBytes wanted: UInt64?, readOnly: Bool) throws(Problem) {
        var fd = unsafe open(path, (readOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC)
        var isNew = false
        if fd < 0, Glibc.errno == ENOENT {
            guard let wanted else { throw .noSize(path: path) }
            fd = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            isNew = fd >= 0
            if isNew, ftruncate(fd, off_t(wanted)) != 0 {
                let errno = Errno(rawValue: Glibc.errno)
                close(fd)
                unsafe unlink(path)
                throw .system(call: "ftruncate to \(wanted) bytes", path: path, errno)
            }
        }
        guard fd >= 0 else {
            throw .system(call: "open", path: path, Errno(rawValue: Glibc.errno))
        }
        do throws(Problem) {
            let size = try Self.size(of: fd, path: path)
            if let wanted, size < wanted {
                throw Problem.tooSmall(path: path, has: size, needs: wanted)
            }
            try Self.claim(fd, path: path, readOnly: readOnly)
            sizeBytes = size
        } catch {
            close(fd)
            throw error
        }
        self.path = path
        self.fd = fd
        self.isNew = isNew
    }

    deinit { close(fd) }

    func removeIfNew() {
        if isNew { unsafe unlink(path) }
    }

    /// Nobody else may use the backing: two devices on one file would corrupt it.
    ///
    /// A lock that goes with the server; for a block device the kernel's exclusive open, which a
    /// mounted filesystem holds too.
    private static func claim(_ fd: Int32, path: String, readOnly: Bool) throws(Problem) {
        guard flock(fd, (readOnly ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0 else {
            throw .inUse(path: path)
        }
        var status = stat()
        guard !readOnly, unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFBLK else {
            return
        }
        let exclusive = unsafe open(path, O_RDONLY | O_EXCL | O_CLOEXEC)
        guard exclusive >= 0 else { throw .inUse(path: path) }
        close(exclusive)
    }

    private static func size(of fd: Int32, path: String) throws(Problem) -> UInt64 {
        var status = stat()
        guard unsafe fstat(fd, &status) == 0 else {
            throw .system(call: "fstat", path: path, Errno(rawValue: Glibc.errno))
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return UInt64(status.st_size)
        case S_IFBLK:
            do { return try SystemCall.blockDeviceBytes(fd) } catch {
                throw .system(call: "BLKGETSIZE64", path: path, error)
            }
        default: throw .notAFile(path: path)
        }
    }

    /// What queues hold.
    struct View {
        /// Every write is durable before it completes: the device says it has no cache.
        let writesThrough: Bool
        /// Its place among the device's files, from 0.
        let file: Int32
        let sizeBytes: UInt64
        /// The best way to zero that the file has not refused yet.
        var zeroing = Zeroing.zeroRange
    }

    /// Ways to zero a file's bytes, best first.
    enum Zeroing: UInt8, Comparable {
        case zeroRange
        case punchHole
        case writing
        static func < (a: Zeroing, b: Zeroing) -> Bool { a.rawValue < b.rawValue }
    }
}
