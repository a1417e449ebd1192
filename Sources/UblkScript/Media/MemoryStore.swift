import Glibc
import Synchronization
import SystemPackage

/// The owner of a store in anonymous memory, mapped whole and populated by the kernel on first write.
///
/// One large MAP_NORESERVE mapping instead of a page directory of our own: the kernel then does holes, sharing between
/// queues and freeing, without a lock or an allocation on the IO path. Concurrent writes to the same bytes may mix, as
/// on a disk. A store that may grow has addresses set aside behind it, which cost nothing, so that queues need not be
/// told of another place. Any thread.
@safe
final class MemoryStore: Sendable {
    // Safety: the mapping lives as long as this object; every access is checked against the size
    // of a view, up to which the mapping is readable and writable.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer
    /// Length of the mapping.
    private let reachBytes: UInt64
    private let size: Atomic<UInt64>
    var sizeBytes: UInt64 { size.load(ordering: .relaxed) }

    /// The address space or the overcommit policy does not allow the size.
    struct NoMemory: Error, CustomStringConvertible {
        let bytes: UInt64
        let errno: Errno
        var description: String {
            """
            memory backing: \(Rounded.bytes(bytes)) cannot be mapped (\(errno.name)). \
            See: sysctl vm.overcommit_memory (2 forbids it), ulimit -v; or ask for less: size=1G
            """
        }
    }

    /// Maps the bytes, all zeroes.
    ///
    /// - Parameter reachBytes: the size up to which the store may grow; less where the address space does not allow it.
    init(sizeBytes: UInt64, reachBytes: UInt64 = 0) throws(NoMemory) {
        if reachBytes > sizeBytes, let mapping = unsafe Self.map(reachBytes, PROT_NONE) {
            unsafe base = mapping
            self.reachBytes = reachBytes
            size = Atomic(0)
            try grow(to: sizeBytes)
            return
        }
        guard let mapping = unsafe Self.map(sizeBytes, PROT_READ | PROT_WRITE) else {
            throw NoMemory(bytes: sizeBytes, errno: Errno(rawValue: Glibc.errno))
        }
        unsafe base = mapping
        self.reachBytes = sizeBytes
        size = Atomic(sizeBytes)
    }

    private static func map(_ bytes: UInt64, _ protection: Int32) -> UnsafeMutableRawPointer? {
        guard let length = Int(exactly: bytes), length > 0 else { return nil }
        let flags = MAP_PRIVATE | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE)
        let mapping = unsafe mmap(nil, length, protection, flags, -1, 0)
        return unsafe mapping == MAP_FAILED ? nil : mapping
    }

    deinit { unsafe munmap(base, Int(reachBytes)) }

    /// Makes the store larger; what is new reads as zeroes.
    ///
    /// One thread at a time.
    func grow(to wanted: UInt64) throws(NoMemory) {
        let sizeBytes = sizeBytes
        guard wanted > sizeBytes else { return }
        guard wanted <= reachBytes else {
            throw NoMemory(bytes: wanted, errno: .noMemory)
        }
        let page = UInt64(SystemPage.bytes)
        let first = sizeBytes / page * page
        let length = Int(wanted - first)
        guard unsafe mprotect(base + Int(first), length, PROT_READ | PROT_WRITE) == 0 else {
            throw NoMemory(bytes: wanted, errno: Errno(rawValue: Glibc.errno))
        }
        size.store(wanted, ordering: .relaxed)
    }

    /// Has all of it in memory before the first IO.
    func populate() throws(Errno) {
        try unsafe LockedMemory.populate(
            UnsafeMutableRawBufferPointer(start: base, count: Int(sizeBytes))
        )
    }

    /// The store for queues: a value that holds no reference, valid while the store lives.
    var view: View { unsafe View(base: base, sizeBytes: sizeBytes) }

    @safe
    struct View {
        // Safety: the store's mapping; each method checks its range.
        fileprivate let base: UnsafeMutableRawPointer
        var sizeBytes: UInt64

        private func at(_ offset: UInt64, _ length: UInt64) -> UnsafeMutableRawPointer {
            precondition(offset <= sizeBytes && length <= sizeBytes - offset)
            return unsafe base + Int(offset)
        }

        func isSame(as other: View) -> Bool { unsafe base == other.base }

        /// Does a whole transfer.
        @inline(__always)
        func perform(_ transfer: Transfer, _ data: IOData) -> StoreStep {
            guard transfer.isWithin(sizeBytes) else { return .pastEnd }
            let offset = transfer.offset
            let length = transfer.length
            switch transfer.op {
            case .read:
                unsafe read(at: offset, length: length, into: data.bytes + Int(transfer.at))
            case .write:
                unsafe write(at: offset, length: length, from: data.bytes + Int(transfer.at))
            case .writeZeroes, .discard: clear(at: offset, length: length)
            case .flush: break
            }
            return .done
        }

        func read(at offset: UInt64, length: UInt64, into buffer: UnsafeMutableRawPointer) {
            unsafe buffer.copyMemory(from: at(offset, length), byteCount: Int(length))
        }

        func write(at offset: UInt64, length: UInt64, from buffer: UnsafeMutableRawPointer) {
            unsafe at(offset, length).copyMemory(from: buffer, byteCount: Int(length))
        }

        /// Zeroes the bytes; whole pages are given back to the kernel, which refuses that where memory is locked.
        func clear(at offset: UInt64, length: UInt64) {
            let start = unsafe at(offset, length)
            let page = UInt64(SystemPage.bytes)
            let firstPage = (offset + page - 1) / page * page
            let endPage = (offset + length) / page * page
            guard firstPage < endPage,
                unsafe madvise(base + Int(firstPage), Int(endPage - firstPage), MADV_DONTNEED) == 0
            else {
                unsafe memset(start, 0, Int(length))
                return
            }
            unsafe memset(start, 0, Int(firstPage - offset))
            unsafe memset(base + Int(endPage), 0, Int(offset + length - endPage))
        }
    }
}
