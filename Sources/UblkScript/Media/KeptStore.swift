import CUring
import Glibc
import Synchronization
import SystemPackage

/// The owner of a store in memory that outlives its server: a file on a filesystem in memory, beside the device's
/// record, which the next server opens again.
///
/// A new one has no name until ``name(_:)`` gives it one, as there is no device yet whose it could be; what ends before
/// that leaves nothing. Queues read and write it by calls, not through a mapping. So a hole that is read stays one, and
/// a filesystem without room is an errno; of a mapping the first would take memory, and the other end the process
/// (SIGBUS). The calls wait for no disk. What may not be evicted (`lock_memory`) is allocated as a whole and never
/// given back, so that is mapped. Any thread.
@safe
final class KeptStore: Sendable {
    /// Of the store among those of its device; 0: the device's own.
    let number: Int
    private let fd: Int32
    // Safety: `lockedBytes` addresses, mapped as long as this object lives, all of them within the file, which nobody
    // makes shorter; they are allocated before the first queue has a view, and stay so.
    private nonisolated(unsafe) let mapping: UnsafeMutableRawPointer?
    private let lockedBytes: UInt64
    private let size: Atomic<UInt64>
    var sizeBytes: UInt64 { size.load(ordering: .relaxed) }

    enum Problem: Error, CustomStringConvertible {
        case system(call: String, path: String, Errno)
        case onDisk(folder: String)
        case noRoom(folder: String, has: UInt64, needs: UInt64)
        case isGone(path: String)

        var description: String {
            switch self {
            case .system(let call, let path, let errno):
                "memory backing, kept in \(path): \(call) failed: \(errno) (\(errno.name))"
            case .onDisk(let folder):
                """
                recovery keeps what is stored in memory in \(folder), which is on a disk here, where a queue would have \
                to wait for it: give the bytes a file (--file PATH), or mount a tmpfs there
                """
            case .noRoom(let folder, let has, let needs):
                """
                recovery keeps what is stored in memory in \(folder), up to \(Rounded.bytes(needs)), and may have three \
                quarters of what is free there, \(Rounded.bytes(has)): give the bytes a file (--file PATH), ask for \
                less (size=64M), or make room: mount -o remount,size=2G /run
                """
            case .isGone(let path):
                "\(path) is not there any more, or is shorter than the device, and the device's bytes with it: put it back"
            }
        }
    }

    /// Makes a file of holes, without a name.
    ///
    /// - Parameters:
    ///   - needsBytes: for all stores of the device together, this one among them.
    ///   - isLocked: see ``populate()``.
    ///   - isInMemory: whether an open file is on a filesystem in memory.
    convenience init(
        in folder: String,
        number: Int,
        sizeBytes: UInt64,
        needsBytes: UInt64,
        isLocked: Bool,
        isInMemory: (Int32) -> Bool
    ) throws(Problem) {
        let fd = unsafe sys_unnamed_file(folder)
        guard fd >= 0 else {
            throw .system(call: "open with O_TMPFILE", path: folder, Errno(rawValue: -fd))
        }
        do throws(Problem) {
            guard isInMemory(fd) else { throw .onDisk(folder: folder) }
            try Self.check(fd, folder, needsBytes)
            try Self.setSize(fd, sizeBytes, folder)
            try self.init(fd, number, sizeBytes, isLocked: isLocked, folder)
        } catch {
            close(fd)
            throw error
        }
    }

    /// Opens what an earlier server has left, which has at least `sizeBytes`.
    convenience init(
        opening path: String,
        number: Int,
        sizeBytes: UInt64,
        isLocked: Bool
    ) throws(Problem) {
        let fd = unsafe open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard fd >= 0 else {
            guard errno != ENOENT else { throw .isGone(path: path) }
            throw .system(call: "open", path: path, Errno(rawValue: errno))
        }
        var status = stat()
        do throws(Problem) {
            guard unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
                status.st_size >= 0, UInt64(status.st_size) >= sizeBytes
            else { throw .isGone(path: path) }
            try self.init(fd, number, sizeBytes, isLocked: isLocked, path)
        } catch {
            close(fd)
            throw error
        }
    }

    private init(
        _ fd: Int32,
        _ number: Int,
        _ sizeBytes: UInt64,
        isLocked: Bool,
        _ path: String
    ) throws(Problem) {
        if isLocked {
            let protection = PROT_READ | PROT_WRITE
            let mapping = unsafe mmap(nil, Int(sizeBytes), protection, MAP_SHARED, fd, 0)
            guard unsafe mapping != MAP_FAILED else {
                throw .system(call: "mmap", path: path, Errno(rawValue: errno))
            }
            unsafe self.mapping = mapping
        } else {
            unsafe mapping = nil
        }
        (self.fd, self.number) = (fd, number)
        lockedBytes = isLocked ? sizeBytes : 0
        size = Atomic(sizeBytes)
    }

    deinit {
        if let mapping = unsafe mapping { unsafe munmap(mapping, Int(lockedBytes)) }
        close(fd)
    }

    /// Gives the file its name, where it stays until it is removed; replaces what is there.
    func name(_ path: String) throws(Problem) {
        unsafe unlink(path)
        let result = unsafe sys_name_file(fd, path)
        guard result == 0 else {
            throw .system(call: "linkat", path: path, Errno(rawValue: -result))
        }
    }

    /// What of it takes no memory yet, bytes.
    var missingBytes: UInt64 {
        var status = stat()
        guard unsafe fstat(fd, &status) == 0 else { return sizeBytes }
        return sizeBytes - min(sizeBytes, UInt64(max(0, status.st_blocks)) * 512)
    }

    /// Has all of it in memory before the first IO; where memory is locked, it stays there.
    func populate() throws(Errno) {
        guard let mapping = unsafe mapping else { return }
        let problem = posix_fallocate(fd, 0, off_t(lockedBytes))
        guard problem == 0 else { throw Errno(rawValue: problem) }
        try unsafe LockedMemory.populate(
            UnsafeMutableRawBufferPointer(start: mapping, count: Int(lockedBytes))
        )
    }

    /// Makes the store larger; what is new reads as zeroes.
    ///
    /// One thread at a time.
    func grow(to wanted: UInt64) throws(Problem) {
        let sizeBytes = sizeBytes
        guard wanted > sizeBytes else { return }
        let path = "/proc/self/fd/\(fd)"
        try Self.check(fd, path, wanted - sizeBytes)
        try Self.setSize(fd, wanted, path)
        size.store(wanted, ordering: .relaxed)
    }

    /// Refuses what the filesystem has no room for, or too little for all others who live there.
    private static func check(
        _ fd: Int32,
        _ folder: String,
        _ needs: UInt64
    ) throws(Problem) {
        let free = sys_free_bytes(fd)
        guard free >= 0, needs > UInt64(free) / 4 * 3 else { return }
        throw .noRoom(folder: folder, has: UInt64(free), needs: needs)
    }

    private static func setSize(_ fd: Int32, _ bytes: UInt64, _ path: String) throws(Problem) {
        guard let length = off_t(exactly: bytes), length > 0, ftruncate(fd, length) == 0 else {
            let errno = bytes > 0 ? Errno(rawValue: errno) : .invalidArgument
            throw .system(call: "ftruncate to \(bytes) bytes", path: path, errno)
        }
    }

    /// The store for queues: a value that holds no reference, valid while the store lives.
    var view: View {
        unsafe View(fd: fd, mapping: mapping, lockedBytes: lockedBytes, sizeBytes: sizeBytes)
    }

    @safe
    struct View {
        fileprivate let fd: Int32
        // Safety: the store's mapping; what is done there is within `lockedBytes`.
        fileprivate let mapping: UnsafeMutableRawPointer?
        fileprivate let lockedBytes: UInt64
        var sizeBytes: UInt64

        func isSame(as other: View) -> Bool { fd == other.fd }

        /// Does a whole transfer.
        @inline(never)
        func perform(_ transfer: Transfer, _ data: IOData) -> StoreStep {
            guard transfer.isWithin(sizeBytes) else { return .pastEnd }
            if transfer.op == .flush { return .done }
            guard transfer.op == .read || transfer.op == .write else { return clear(transfer) }
            let bytes = unsafe data.bytes + Int(transfer.at)
            if let mapping = unsafe mapping, transfer.offset + transfer.length <= lockedBytes {
                let (place, count) = unsafe (mapping + Int(transfer.offset), Int(transfer.length))
                if transfer.op == .read {
                    unsafe bytes.copyMemory(from: place, byteCount: count)
                } else {
                    unsafe place.copyMemory(from: bytes, byteCount: count)
                }
                return .done
            }
            var done = 0
            while done < Int(transfer.length) {
                let at = off_t(transfer.offset) + done
                let rest = Int(transfer.length) - done
                let count =
                    transfer.op == .read
                    ? unsafe pread(fd, bytes + done, rest, at)
                    : unsafe pwrite(fd, bytes + done, rest, at)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return failed(count == 0 ? EIO : errno) }
                done += count
            }
            return .done
        }

        /// Zeroes the bytes, and gives their memory back unless it is locked.
        private func clear(_ transfer: Transfer) -> StoreStep {
            var offset = transfer.offset
            let end = offset + transfer.length
            if let mapping = unsafe mapping, offset < lockedBytes {
                let count = min(end, lockedBytes) - offset
                unsafe memset(mapping + Int(offset), 0, Int(count))
                offset += count
            }
            while offset < end {
                let result = sys_punch_hole(fd, offset, end - offset)
                if result == 0 { break }
                guard result == -EINTR else { return failed(-result) }
            }
            return .done
        }

        private func failed(_ errno: Int32) -> StoreStep {
            .failed(
                errno: errno,
                note: errno == ENOSPC
                    ? ": the filesystem of /run/ublk-script, where recovery keeps it, is full" : ""
            )
        }
    }
}
