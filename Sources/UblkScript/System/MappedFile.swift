import CUring
import Glibc
import Synchronization
import SystemPackage

/// A file in memory (tmpfs) whose bytes are memory of this process, and outlive it.
///
/// A store to it is a store to memory, no system call; whoever maps the file next finds what was stored before the
/// process was killed. All of it is allocated when it is made, and what it grows by before it is used: a filesystem
/// that is full is an error then, not a SIGBUS later. A file on a disk would have the process wait for that disk
/// whenever a page has been written back, so it is refused. Any thread.
@safe
final class MappedFile: Sendable {
    // Safety: `reach` addresses, mapped as long as this object lives; the file has the first `count` of them, and
    // nobody makes it shorter.
    nonisolated(unsafe) let bytes: UnsafeMutableRawPointer
    private let reach: Int
    private let size: Atomic<Int>
    private let fd: Int32
    var count: Int { size.load(ordering: .acquiring) }

    enum Problem: Error, Equatable {
        case system(call: String, Errno)
        /// The filesystem keeps its files on a disk, or does not tell.
        case onDisk
    }

    /// Makes a file of zeroes, replacing whatever has its name.
    ///
    /// - Parameters:
    ///   - reach: the size up to which it may grow; 0: as it is.
    ///   - isInMemory: whether an open file is on a filesystem in memory.
    convenience init(
        making path: String,
        count: Int,
        reach: Int = 0,
        isInMemory: (Int32) -> Bool = MappedFile.isInMemory
    ) throws(Problem) {
        unsafe unlink(path)
        let fd = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard fd >= 0 else { throw .system(call: "create", Errno(rawValue: errno)) }
        do throws(Problem) {
            guard isInMemory(fd) else { throw .onDisk }
            try Self.allocate(fd, 0..<count)
            try self.init(fd, count: count, reach: max(reach, count))
        } catch {
            close(fd)
            unsafe unlink(path)
            throw error
        }
    }

    /// Maps a file that an earlier process has made, of so many bytes; nil: there is none.
    convenience init?(opening path: String, counts: ClosedRange<Int>) throws(Problem) {
        let fd = unsafe open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard fd >= 0 else {
            guard errno != ENOENT else { return nil }
            throw .system(call: "open", Errno(rawValue: errno))
        }
        var status = stat()
        guard unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
            counts.contains(Int(status.st_size))
        else {
            close(fd)
            return nil
        }
        do throws(Problem) {
            try self.init(fd, count: Int(status.st_size), reach: counts.upperBound)
        } catch {
            close(fd)
            throw error
        }
    }

    private init(_ fd: Int32, count: Int, reach: Int) throws(Problem) {
        let mapping = unsafe mmap(nil, reach, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        guard let mapping = unsafe mapping, unsafe mapping != MAP_FAILED else {
            throw .system(call: "mmap", Errno(rawValue: errno))
        }
        unsafe bytes = mapping
        self.reach = reach
        self.fd = fd
        size = Atomic(count)
    }

    private static func allocate(_ fd: Int32, _ range: Range<Int>) throws(Problem) {
        let problem = posix_fallocate(fd, off_t(range.lowerBound), off_t(range.count))
        guard problem == 0 else { throw .system(call: "allocate", Errno(rawValue: problem)) }
    }

    /// Makes the file longer, by zeroes; one thread at a time.
    ///
    /// - Returns: false, with nothing changed, when it may not be so long or there is no room.
    func grow(to wanted: Int) -> Bool {
        guard wanted > count else { return true }
        guard wanted <= reach, (try? Self.allocate(fd, count..<wanted)) != nil else { return false }
        size.store(wanted, ordering: .releasing)
        return true
    }

    /// Says whose bytes these are: in the first 8, which are nothing else.
    ///
    /// - Parameter identity: not 0, which a new file says.
    func belong(to identity: UInt64) {
        unsafe first.pointee.store(identity, ordering: .releasing)
    }

    func isOf(_ identity: UInt64) -> Bool { owner == identity }

    /// Whose bytes these are.
    var owner: UInt64 { unsafe first.pointee.load(ordering: .acquiring) }

    private var first: UnsafeMutablePointer<Atomic<UInt64>> {
        unsafe bytes.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    deinit {
        unsafe munmap(bytes, reach)
        close(fd)
    }

    /// True for a file on tmpfs or ramfs.
    static func isInMemory(_ fd: Int32) -> Bool {
        [0x0102_1994, 0x8584_58f6].contains(sys_filesystem_type(fd))
    }
}
