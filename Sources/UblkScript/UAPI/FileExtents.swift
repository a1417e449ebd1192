import CUring
import Glibc
import SystemPackage

/// Where a file lies on the block device below its filesystem.
///
/// Any thread.
enum FileExtents {
    struct Extent: Equatable, Sendable {
        /// On the disk, bytes.
        var offset: UInt64
        var length: UInt64
    }

    enum Problem: Error, CustomStringConvertible {
        case system(call: String, path: String, Errno)
        case elsewhere(path: String, disk: String)
        case noPlace(path: String, at: UInt64)

        var description: String {
            switch self {
            case .system(let call, let path, .notSupported):
                "\(path): its filesystem does not tell where files lie (\(call): EOPNOTSUPP)"
            case .system(let call, let path, let errno):
                "\(path): \(call) failed: \(errno) (\(errno.name))"
            case .elsewhere(let path, let disk):
                """
                \(path) is not on \(disk), neither on the whole disk nor on a partition of it. \
                See: findmnt -T \(path)
                """
            case .noPlace(let path, let at):
                """
                \(path): its bytes from \(at) on have no blocks of their own (inline in the inode, compressed, \
                or not written yet). Write more to it, sync, and try again
                """
            }
        }
    }

    /// The pieces of a regular file on `disk`, in the file's order; neighbours are one.
    ///
    /// Unwritten data of the file is written back first.
    static func of(_ path: String, onDisk disk: String) throws(Problem) -> [Extent] {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { throw .system(call: "open", path: path, Errno(rawValue: Glibc.errno)) }
        defer { close(fd) }
        let start = try partitionStart(fd, path: path, disk: disk)
        var extents: [Extent] = []
        var pieces = [sys_extent](repeating: sys_extent(), count: 256)
        var from: UInt64 = 0
        while true {
            let count = unsafe sys_file_extents(fd, from, &pieces, UInt32(pieces.count))
            guard count >= 0 else {
                throw .system(call: "FIEMAP", path: path, Errno(rawValue: -count))
            }
            for piece in pieces.prefix(Int(count)) {
                guard piece.has_place else { throw .noPlace(path: path, at: piece.logical) }
                append(Extent(offset: start + piece.physical, length: piece.length), to: &extents)
                from = piece.logical + piece.length
            }
            if count == 0 || pieces[Int(count) - 1].is_last { return extents }
        }
    }

    private static func append(_ extent: Extent, to extents: inout [Extent]) {
        if let last = extents.last, last.offset + last.length == extent.offset {
            extents[extents.count - 1].length += extent.length
        } else {
            extents.append(extent)
        }
    }

    /// Where on the disk the filesystem of the open file begins.
    private static func partitionStart(
        _ fd: Int32,
        path: String,
        disk: String
    ) throws(Problem) -> UInt64 {
        var file = stat()
        var device = stat()
        guard unsafe fstat(fd, &file) == 0 else {
            throw .system(call: "fstat", path: path, Errno(rawValue: Glibc.errno))
        }
        guard unsafe stat(disk, &device) == 0 else {
            throw .system(call: "stat", path: disk, Errno(rawValue: Glibc.errno))
        }
        if file.st_dev == device.st_rdev { return 0 }
        // A partition is a folder inside its disk's.
        let own = sysfsFolder(file.st_dev)
        guard number("\(own)/../dev") == "\(major(device.st_rdev)):\(minor(device.st_rdev))",
            let sectors = number("\(own)/start").flatMap({ UInt64($0) })
        else { throw .elsewhere(path: path, disk: disk) }
        return sectors * 512
    }

    private static func sysfsFolder(_ device: dev_t) -> String {
        "/sys/dev/block/\(major(device)):\(minor(device))"
    }

    private static func major(_ device: dev_t) -> dev_t {
        (device >> 8) & 0xfff | (device >> 32) & ~0xfff
    }

    private static func minor(_ device: dev_t) -> dev_t {
        device & 0xff | (device >> 12) & ~0xff & 0xffff_ffff
    }

    /// The one word in a file of sysfs; nil when there is none.
    private static func number(_ path: String) -> String? {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe read(fd, $0.baseAddress, $0.count)
        }
        guard count > 0 else { return nil }
        return String(decoding: bytes.prefix(count).filter { $0 > 32 }, as: UTF8.self)
    }
}
