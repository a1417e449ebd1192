import CUring
import Glibc
import SystemPackage

/// Where a file lies on the block device below its filesystem.
///
/// Any thread.
enum FileExtents {
    struct Extent: Equatable, Sendable {
        /// Offset on the disk, bytes.
        var offset: UInt64
        var length: UInt64
        /// Offset in the file.
        var at: UInt64
    }

    enum Problem: Error, CustomStringConvertible {
        case system(call: String, path: String, Errno)
        case noFile(path: String)
        case noDisk(path: String)
        case elsewhere(path: String, disk: String, reason: String, isAbove: Bool)
        case noPlace(path: String, at: UInt64)

        var description: String {
            switch self {
            case .system(let call, let path, .notSupported):
                "\(path): its filesystem does not tell where files lie (\(call): EOPNOTSUPP)"
            case .system(let call, let path, let errno):
                "\(path): \(call) failed: \(errno) (\(errno.name))"
            case .noFile(let path): "\(path): a regular file or a folder is expected"
            case .noDisk(let path):
                "\(path) is no block device: is the device up? See: ublk-script list"
            case .elsewhere(let path, let disk, let reason, true):
                "\(path) is on \(disk), but not directly: its filesystem is on \(reason)"
            case .elsewhere(let path, let disk, let reason, false):
                """
                \(path) is not on \(disk), neither on the whole disk nor on a partition of it. \
                It is on \(reason). See: findmnt -T \(path)
                """
            case .noPlace(let path, let at):
                """
                \(path): its bytes from \(at) on have no blocks of their own (inline in the inode, compressed, \
                or not written yet). Write more to it, sync, and try again
                """
            }
        }

        /// True when the filesystem can be asked and this file has no blocks.
        var isOfOneFile: Bool { if case .noPlace = self { true } else { false } }
    }

    /// The extents of a regular file on `disk`, in the file's order; adjacent extents are merged.
    ///
    /// Unwritten data of the file is written back first.
    ///
    /// - Parameter part: only these bytes of the file.
    static func of(
        _ path: String,
        onDisk disk: String,
        part: Range<UInt64> = 0..<(.max)
    ) throws(Problem) -> [Extent] {
        // Neither a fifo nor a device is waited for.
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard fd >= 0 else { throw .system(call: "open", path: path, Errno(rawValue: Glibc.errno)) }
        defer { close(fd) }
        let start = try partitionStart(fd, path: path, disk: disk)
        var extents: [Extent] = []
        var pieces = [sys_extent](repeating: sys_extent(), count: 256)
        var from = part.lowerBound
        while from < part.upperBound {
            let count = unsafe sys_file_extents(fd, from, &pieces, UInt32(pieces.count))
            guard count >= 0 else {
                throw .system(call: "FIEMAP", path: path, Errno(rawValue: -count))
            }
            for piece in pieces.prefix(Int(count)) {
                let first = max(piece.logical, part.lowerBound)
                let end = min(piece.logical + piece.length, part.upperBound)
                from = piece.logical + piece.length
                guard first < end else { continue }
                guard piece.has_place else { throw .noPlace(path: path, at: first) }
                let offset = start + piece.physical + (first - piece.logical)
                append(Extent(offset: offset, length: end - first, at: first), to: &extents)
            }
            if count == 0 || pieces[Int(count) - 1].is_last { return extents }
        }
        return extents
    }

    private static func append(_ extent: Extent, to extents: inout [Extent]) {
        if let last = extents.last, last.offset + last.length == extent.offset,
            last.at + last.length == extent.at
        {
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
        guard file.st_mode & S_IFMT == S_IFREG else { throw .noFile(path: path) }
        guard unsafe stat(disk, &device) == 0 else {
            throw .system(call: "stat", path: disk, Errno(rawValue: Glibc.errno))
        }
        guard device.st_mode & S_IFMT == S_IFBLK else { throw .noDisk(path: disk) }
        let below = DiskBelow(device: file.st_dev)
        if let start = below.start(on: device.st_rdev) { return start }
        throw .elsewhere(
            path: path,
            disk: disk,
            reason: below.reason(filesystem: sys_filesystem_type(fd)),
            isAbove: below.isAbove(device.st_rdev)
        )
    }
}

/// The regular files that a path names.
enum FilesBelow {
    /// The path itself, or all files in the folder and below, in the order of their names; on its own filesystem, each
    /// once, no links followed.
    static func of(_ path: String) -> [String] {
        var status = stat()
        guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            return [path]
        }
        var seen: Set<ino_t> = []
        var files: [String] = []
        walk(path, device: status.st_dev, &seen, &files)
        return files
    }

    private static func walk(
        _ folder: String,
        device: dev_t,
        _ seen: inout Set<ino_t>,
        _ files: inout [String]
    ) {
        let prefix = folder.hasSuffix("/") ? folder : folder + "/"
        for name in DirectoryListing.names(folder).sorted() {
            var status = stat()
            guard unsafe lstat(prefix + name, &status) == 0, status.st_dev == device else {
                continue
            }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: walk(prefix + name, device: device, &seen, &files)
            case S_IFREG where seen.insert(status.st_ino).inserted: files.append(prefix + name)
            default: continue
            }
        }
    }
}
