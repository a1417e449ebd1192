import CUring
import Glibc
import SystemPackage

/// Memory that is there before it is used and stays there, so that no IO waits for a page.
///
/// A page that is touched for the first time is a fault, which may have to wait until the kernel has found one; program
/// text and data that were evicted are read again from a disk, perhaps from one that waits for this server. Locking is
/// for what is in memory (MCL_ONFAULT), as there are more addresses than memory: those behind a store, for the time
/// that it grows, and tables by block. What an IO uses is populated on top of that. Any thread.
enum LockedMemory {
    /// What this process has in memory, now or later, is never evicted.
    static func lock() throws(Errno) {
        let result = sys_lock_memory()
        guard result == 0 else { throw Errno(rawValue: -result) }
    }

    /// Has pages in memory, each written once without a change.
    static func populate(_ memory: UnsafeMutableRawBufferPointer) throws(Errno) {
        let result = unsafe sys_populate(memory.baseAddress, memory.count, true)
        guard result == 0 else { throw Errno(rawValue: -result) }
    }

    /// Has this program, its libraries and its heap in memory, as far as they are there.
    static func populateProgram() {
        for line in KernelTable.lines("/proc/self/maps") ?? [] {
            guard let mapping = Mapping(line) else { continue }
            // Best effort: the end of a file may lie within the last page but one.
            _ = unsafe sys_populate(
                UnsafeMutableRawPointer(bitPattern: mapping.first),
                Int(mapping.end - mapping.first),
                mapping.isWritable
            )
        }
    }

    /// Makes whole pages of anonymous memory zeroes, locked or not; what is not locked is given back.
    static func forget(_ memory: UnsafeMutableRawBufferPointer) {
        _ = unsafe sys_forget(memory.baseAddress, memory.count)
    }

    /// A mapping of a program or a library, or the heap.
    struct Mapping: Equatable {
        let first, end: UInt
        let isWritable: Bool

        /// Reads a line of `/proc/PID/maps`; nil: it is another kind of mapping, or a shared one.
        init?(_ line: Substring) {
            let words = line.split(separator: " ", maxSplits: 5)
            guard words.count == 6, words[1].first == "r", words[1].last == "p" else { return nil }
            let name = words[5].drop { $0 == " " }
            guard name == "[heap]" || name.first == "/" && !name.hasPrefix("/dev/") else {
                return nil
            }
            let ends = words[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
            guard ends.count == 2, ends[0] < ends[1] else { return nil }
            (first, end) = (ends[0], ends[1])
            isWritable = words[1].dropFirst().first == "w"
        }
    }

    /// What memory the kernel can find without swapping (MemAvailable); nil: it does not tell.
    static var availableBytes: UInt64? { bytes("MemAvailable", in: "/proc/meminfo") }
    /// The addresses of this process, all of which count for its limit.
    static var addressBytes: UInt64? { bytes("VmSize", in: "/proc/self/status") }
    /// How much this process may lock without CAP_IPC_LOCK; nil: any amount.
    static var limitBytes: UInt64? {
        let limit = sys_locked_memory_limit()
        return limit == UInt64.max ? nil : limit
    }

    /// A line such as `MemAvailable:   123 kB`.
    private static func bytes(_ key: String, in path: String) -> UInt64? {
        for line in KernelTable.lines(path) ?? [] where line.hasPrefix(key + ":") {
            let words = line.split { $0 == " " || $0 == "\t" }
            return words.count > 1 ? UInt64(words[1]).map { $0 << 10 } : nil
        }
        return nil
    }
}
