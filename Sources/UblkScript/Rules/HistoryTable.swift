import Glibc
import Synchronization

/// What has happened to each 4 KiB of a device: how often it was accessed (a table of `UInt8`), or when it was written
/// last (of `UInt64`).
///
/// One table for all queues, an anonymous mapping: the kernel gives a page where something is stored, and a page that
/// nobody wrote reads as zeroes. Owner: ``SharedObjects``. Any thread, no lock: each unit is an atomic of its own, so
/// two queues that touch the same one at a time both count.
@safe
struct HistoryTable<Unit: AtomicRepresentable>: Equatable, Sendable {
    // Safety: `count` units, mapped for as long as the shared objects live; zeroes are atomics that hold 0.
    private nonisolated(unsafe) let units: UnsafeMutablePointer<Atomic<Unit>>
    private let count: UInt64

    static var unitBytes: UInt64 { 4096 }

    /// nil when there is no memory, or nothing to map.
    init?(deviceBytes: UInt64) {
        count = deviceBytes / Self.unitBytes + (deviceBytes % Self.unitBytes != 0 ? 1 : 0)
        guard count != 0 else { return nil }
        let mapping = unsafe mmap(
            nil,
            Int(count) * MemoryLayout<Atomic<Unit>>.stride,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
            -1,
            0
        )
        guard let mapping = unsafe mapping, unsafe mapping != MAP_FAILED else { return nil }
        unsafe units = mapping.bindMemory(to: Atomic<Unit>.self, capacity: Int(count))
    }

    static func == (left: Self, right: Self) -> Bool { unsafe left.units == right.units }

    private var byteCount: Int { Int(count) * MemoryLayout<Atomic<Unit>>.stride }

    /// All zeroes again.
    func forget() { unsafe madvise(units, byteCount, MADV_DONTNEED) }

    /// Nobody uses it any more.
    func free() { unsafe munmap(units, byteCount) }

    /// The units that the bytes touch.
    ///
    /// An IO is inside of its device.
    @inline(__always)
    private func touched(_ offset: UInt64, _ length: UInt64) -> (first: Int, end: Int) {
        let end = length == 0 ? 0 : (offset &+ length &- 1) / Self.unitBytes &+ 1
        return (Int(offset / Self.unitBytes), Int(min(end, count)))
    }
}

extension HistoryTable where Unit == UInt8 {
    /// Counts an access to every unit the bytes touch, up to 255 for each; true when it is the nth of one of them.
    func count(offset: UInt64, length: UInt64, nth: UInt8) -> Bool {
        var (unit, end) = touched(offset, length)
        var isNth = false
        while unit < end {
            var old = unsafe units[unit].load(ordering: .relaxed)
            while old != .max {
                let (isDone, now) = unsafe units[unit].weakCompareExchange(
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
            unit &+= 1
        }
        return isNth
    }
}

extension HistoryTable where Unit == UInt64 {
    /// The bytes were written at that time on the device's clock.
    func write(offset: UInt64, length: UInt64, time: UInt64) {
        var (unit, end) = touched(offset, length)
        while unit < end {
            unsafe units[unit].store(time, ordering: .relaxed)
            unit &+= 1
        }
    }

    /// How long ago the unit was written that was so first; one that never was counts from the start of the clock.
    func age(offset: UInt64, length: UInt64, time: UInt64) -> UInt64 {
        var (unit, end) = touched(offset, length)
        var first = time
        while unit < end {
            first = min(first, unsafe units[unit].load(ordering: .relaxed))
            unit &+= 1
        }
        return time &- first
    }
}
