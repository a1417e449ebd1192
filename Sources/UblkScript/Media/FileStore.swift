import CUring
import Glibc
import SystemPackage

/// The owner of an open backing file or block device.
///
/// Opened once, before the queues, which do IO on it through their rings (``View``). Immutable; any thread.
final class FileStore: Sendable {
    let path: String
    let fd: Int32
    /// Size of the file or block device, bytes.
    let sizeBytes: UInt64

    enum Problem: Error, CustomStringConvertible {
        case system(call: String, path: String, Errno)
        case tooSmall(path: String, has: UInt64, needs: UInt64)
        case notAFile(path: String)
        case inUse(path: String, by: String?, hint: String?)
        case otherSize(path: String, has: UInt64, wants: UInt64)
        case nothingToShare(path: String, wants: UInt64?)
        case noSize(path: String)
        case isGone(path: String)
        case noBlock(path: String, has: UInt64, blockBytes: UInt64)
        case noPlaceForFiles(path: String, folder: String)
        case notTheDevice(DeviceNode.Problem)

        var description: String {
            switch self {
            case .system(let call, let path, let errno):
                "backing file \(path): \(call) failed: \(errno) (\(errno.name))"
            case .tooSmall(let path, let has, let needs):
                """
                backing file \(path) has \(has) bytes, the device needs \(needs): it is never grown or cut by add. \
                Give a smaller size, or enlarge it: truncate -s \(needs) \(path)
                """
            case .inUse(let path, let holders, let hint):
                "backing file \(path) is in use: "
                    + [holders ?? "another device has it, or it is mounted", hint]
                    .compactMap { $0 }.joined(separator: "; ")
            case .otherSize(let path, let has, let wants):
                """
                backing file \(path) has \(has) bytes, not \(wants): a file that is shared has one size for all its \
                devices, that of the file. Leave size out
                """
            case .nothingToShare(let path, let wants):
                """
                backing file \(path) does not exist, and one that is shared is not made, as several devices could be \
                about to. Make it: truncate -s \(wants.map { "\($0)" } ?? "1G") \(path)
                """
            case .noBlock(let path, let has, let block):
                "backing file \(path) has \(has) bytes, not one block of \(block)"
            case .noPlaceForFiles(let path, let folder):
                """
                backing file \(path): no file is made or used below \(folder), only devices are; is its name right? \
                See: lsblk
                """
            case .notTheDevice(let problem): "backing file \(problem)"
            case .notAFile(let path):
                "backing file \(path) is neither a regular file nor a block device"
            case .noSize(let path):
                "backing file \(path) does not exist, and no size is given to make it with: add size = \"1G\""
            case .isGone(let path):
                "backing file \(path) is not there any more, and the device's bytes with it: put it back"
            }
        }
    }

    /// Opens `path`, or makes a sparse file of `sizeBytes` when it does not exist.
    ///
    /// An existing file is never changed, and refused when it is too small.
    ///
    /// - Parameter newFiles: is told of a file that is made; nil: none is, as the device is there already.
    init(
        path: String,
        sizeBytes wanted: UInt64?,
        claim: FileClaim,
        newFiles: NewFiles?
    ) throws(Problem) {
        let fd: Int32
        if let found = try Self.open(path, claim) {
            fd = found
        } else {
            guard let newFiles else { throw .isGone(path: path) }
            guard !claim.isShared else { throw .nothingToShare(path: path, wants: wanted) }
            fd = try Self.make(path, sizeBytes: wanted, newFiles)
        }
        do throws(Problem) {
            try claim.take(fd, path: path)
            let size = try Self.size(of: fd, path: path)
            if let wanted, claim.isShared, newFiles != nil, size != wanted {
                throw .otherSize(path: path, has: size, wants: wanted)
            }
            if let wanted, size < wanted {
                throw .tooSmall(path: path, has: size, needs: wanted)
            }
            sizeBytes = size
        } catch {
            close(fd)
            newFiles?.remove(path)
            throw error
        }
        self.path = path
        self.fd = fd
    }

    deinit { close(fd) }

    /// Makes the file larger.
    ///
    /// - Returns: the size that it had; nil when it was large enough.
    /// - Throws: the file is as it was; a block device that is smaller, too, as its size is not ours to change.
    func grow(to wanted: UInt64) throws(Problem) -> UInt64? {
        let size = try Self.size(of: fd, path: path)
        guard size < wanted else { return nil }
        var status = stat()
        guard unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw .tooSmall(path: path, has: size, needs: wanted)
        }
        try setSize(wanted)
        return size
    }

    /// Takes back a ``grow(to:)`` before anybody has used it.
    func shrink(to sizeBytes: UInt64) { try? setSize(sizeBytes) }

    private func setSize(_ bytes: UInt64) throws(Problem) {
        guard ftruncate(fd, off_t(bytes)) == 0 else {
            throw .system(
                call: "ftruncate to \(bytes) bytes",
                path: path,
                Errno(rawValue: Glibc.errno)
            )
        }
    }

    /// Opens an existing file or block device; nil when there is none.
    ///
    /// The type is checked before the file is opened, because opening a fifo would wait for a writer, and opening some
    /// devices has side effects. Two devices on one file would corrupt it, so the file is locked (``FileClaim``), and a
    /// block device is opened exclusively, as a mounted filesystem does; readers share it. IO must use the exclusive
    /// descriptor itself: to write zeroes the kernel claims the device, which fails with EBUSY while another descriptor
    /// holds the claim (`blkdev_fallocate`).
    private static func open(_ path: String, _ claim: FileClaim) throws(Problem) -> Int32? {
        let place: Int32
        do throws(Errno) { place = try SystemCall.findFile(path) } catch {
            if error == .noSuchFileOrDirectory { return nil }
            throw .system(call: "open", path: path, error)
        }
        defer { close(place) }
        var status = stat()
        guard unsafe fstat(place, &status) == 0 else {
            throw .system(call: "fstat", path: path, Errno(rawValue: Glibc.errno))
        }
        try checkIdentity(status, path: path)
        let isDevice = status.st_mode & S_IFMT == S_IFBLK
        guard isDevice || status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path: path) }
        let name = "/proc/self/fd/\(place)"
        var flags = (claim.isReadOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC
        if isDevice, claim == .exclusive { flags |= O_EXCL }
        if isDevice, claim.isShared, isClaimed(name) { throw claim.refusal(-1, path: path) }
        let fd = unsafe Glibc.open(name, flags)
        guard fd >= 0 else {
            if isDevice, Glibc.errno == EBUSY { throw claim.refusal(-1, path: path) }
            throw .system(call: "open", path: path, Errno(rawValue: Glibc.errno))
        }
        return fd
    }

    /// Somebody has a block device for himself, by a mount or otherwise.
    ///
    /// Servers that share it do not claim it, but each looks, so one of two that look at the same moment looks again.
    private static func isClaimed(_ path: String) -> Bool {
        for _ in 0..<10 {
            let fd = unsafe Glibc.open(path, O_RDONLY | O_EXCL | O_CLOEXEC)
            if fd >= 0 {
                close(fd)
                return false
            }
            guard Glibc.errno == EBUSY else { return false }
            usleep(5000)
        }
        return true
    }

    private static func make(
        _ path: String,
        sizeBytes: UInt64?,
        _ newFiles: NewFiles
    ) throws(Problem) -> Int32 {
        if let folder = AbsolutePath.kernelFolder(of: path) {
            throw .noPlaceForFiles(path: path, folder: folder)
        }
        guard let sizeBytes else { throw .noSize(path: path) }
        let fd = newFiles.make(path) {
            unsafe Glibc.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        }
        guard fd >= 0 else {
            throw .system(call: "open", path: path, Errno(rawValue: Glibc.errno))
        }
        guard ftruncate(fd, off_t(sizeBytes)) == 0 else {
            let errno = Errno(rawValue: Glibc.errno)
            close(fd)
            newFiles.remove(path)
            throw .system(call: "ftruncate to \(sizeBytes) bytes", path: path, errno)
        }
        return fd
    }

    /// Refuses a regular file below `/dev`, and a `/dev/ublkbN` that is not the driver's device.
    private static func checkIdentity(_ file: stat, path: String) throws(Problem) {
        do throws(DeviceNode.Problem) { try DeviceNode.check(path) } catch {
            throw .notTheDevice(error)
        }
        if DeviceNode.isFileAmongDevices(file) {
            throw .noPlaceForFiles(path: path, folder: "/dev")
        }
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
}
