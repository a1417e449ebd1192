import CUring
import Glibc
import SystemPackage

/// Memory that programs and this process have mapped: a file without a name (memfd), which whoever may look at this
/// process opens by its number.
///
/// All of it is there from the beginning, and its size is sealed: of a file that somebody could cut, an access would be
/// a SIGBUS, the end of this process. Any thread; what is in it may change at any moment.
@safe
final class SharedMemory: Sendable {
    // Safety: one mapping, made in init, unmapped in deinit; only raw memory is handed out.
    nonisolated(unsafe) let first: UnsafeMutableRawPointer
    let byteCount: Int
    private let fd: Int32

    /// - Parameter byteCount: whole pages.
    init(byteCount: Int) throws(Errno) {
        let fd = unsafe sys_sealed_memory_file("ublk-script-shared", Int64(byteCount))
        guard fd >= 0 else { throw Errno(rawValue: -fd) }
        let mapping = unsafe mmap(
            nil,
            byteCount,
            PROT_READ | PROT_WRITE,
            MAP_SHARED | Int32(MAP_POPULATE),
            fd,
            0
        )
        guard let mapping = unsafe mapping, unsafe mapping != MAP_FAILED else {
            let problem = Errno(rawValue: errno)
            close(fd)
            throw problem
        }
        unsafe first = mapping
        self.byteCount = byteCount
        self.fd = fd
    }

    deinit {
        unsafe munmap(first, byteCount)
        close(fd)
    }

    /// For other programs to open and map, as long as this process lives.
    var path: String { "/proc/\(getpid())/fd/\(fd)" }
}
