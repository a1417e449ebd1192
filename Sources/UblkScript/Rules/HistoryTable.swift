import Glibc
import Synchronization

/// What has happened to each 4 KiB block of a device: how often it was accessed (entries are `UInt8`), or when it was
/// last written (entries are `UInt64`).
///
/// One table for all queues, in an anonymous mapping: the kernel allocates a page when it is first written, and an
/// untouched page reads as zeroes. Owned by ``SharedObjects``. Any thread, no lock: each entry is an atomic, so
/// simultaneous accesses of two queues are both counted.
@safe
struct HistoryTable<Entry: AtomicRepresentable>: Equatable, Sendable {
    // Safety: `count` entries, mapped for as long as the shared objects live; all zeroes is an atomic that holds 0.
    private nonisolated(unsafe) let entries: UnsafeMutablePointer<Atomic<Entry>>
    private let count: UInt64
    /// Length of the mapping, bytes.
    private let byteCount: Int

    static var blockBytes: UInt64 { 4096 }

    /// Fails when there is no memory, or the device has no bytes.
    ///
    /// The table reaches as far as the device may grow, or to its present end where the address space is limited.
    ///
    /// - Parameter reachBytes: how far it may grow at least; one that has shrunk may grow farther than its size says.
    init?(deviceBytes: UInt64, reachBytes: UInt64 = 0) {
        guard deviceBytes != 0 else { return nil }
        let reach = max(reachBytes, DeviceConfig.reachBytes(of: deviceBytes))
        guard let table = Self(covering: reach) ?? Self(covering: deviceBytes) else { return nil }
        self = table
    }

    private init?(covering bytes: UInt64) {
        count = bytes / Self.blockBytes + (bytes % Self.blockBytes != 0 ? 1 : 0)
        byteCount = Int(count) * MemoryLayout<Atomic<Entry>>.stride
        let mapping = unsafe mmap(
            nil,
            byteCount,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
            -1,
            0
        )
        guard let mapping = unsafe mapping, unsafe mapping != MAP_FAILED else { return nil }
        unsafe entries = mapping.bindMemory(to: Atomic<Entry>.self, capacity: Int(count))
    }

    static func == (left: Self, right: Self) -> Bool { unsafe left.entries == right.entries }

    /// Sets all entries to zero, also where memory is locked.
    func reset() {
        unsafe LockedMemory.forget(UnsafeMutableRawBufferPointer(start: entries, count: byteCount))
    }

    /// Unmaps the table; nothing may use it any more.
    func free() { unsafe munmap(entries, byteCount) }

    /// The entries of the blocks that the bytes touch.
    @inline(__always)
    private func touched(_ offset: UInt64, _ length: UInt64) -> (first: Int, end: Int) {
        let end = length == 0 ? 0 : (offset &+ length &- 1) / Self.blockBytes &+ 1
        return (Int(offset / Self.blockBytes), Int(min(end, count)))
    }
}

extension HistoryTable where Entry == UInt8 {
    /// Counts an access to every block that the bytes touch, up to 255 for each.
    ///
    /// - Returns: true when this is the nth access of one of the blocks.
    func count(offset: UInt64, length: UInt64, nth: UInt8) -> Bool {
        var (entry, end) = touched(offset, length)
        var isNth = false
        while entry < end {
            var old = unsafe entries[entry].load(ordering: .relaxed)
            while old != .max {
                let (isDone, now) = unsafe entries[entry].weakCompareExchange(
                    expected: old,
                    desired: old &+ 1,
                    ordering: .relaxed
                )
                if isDone {
                    if old &+ 1 == nth { isNth = true }
                    break
                }
                old = now
            }
            entry &+= 1
        }
        return isNth
    }
}

extension HistoryTable where Entry == UInt64 {
    /// Notes that the bytes are written.
    ///
    /// - Parameter time: nanoseconds on the device's clock.
    func write(offset: UInt64, length: UInt64, time: UInt64) {
        var (entry, end) = touched(offset, length)
        while entry < end {
            unsafe entries[entry].store(time, ordering: .relaxed)
            entry &+= 1
        }
    }

    /// The age of the oldest of the blocks that the bytes touch, in nanoseconds; a block that was never written is as
    /// old as the device's clock.
    func age(offset: UInt64, length: UInt64, time: UInt64) -> UInt64 {
        var (entry, end) = touched(offset, length)
        var first = time
        while entry < end {
            first = min(first, unsafe entries[entry].load(ordering: .relaxed))
            entry &+= 1
        }
        return time &- first
    }
}
