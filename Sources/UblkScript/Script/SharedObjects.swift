import CLua

/// The named native objects (`ranges`) that all queues of one device share.
///
/// Made once per device, outlives its scripts.
///
/// The C side does its own synchronisation (`ranges.h`); this only owns the memory.
@safe
final class SharedObjects: Sendable {
    // Safety: freed in deinit; every script keeps a reference to this object.
    nonisolated(unsafe) let handle: OpaquePointer

    init(queues: Int) {
        guard let handle = unsafe us_shared_new(UInt32(queues)) else {
            preconditionFailure("out of memory")
        }
        unsafe self.handle = handle
    }

    deinit { unsafe us_shared_free(handle) }

    /// The queue's thread starts looking at sets.
    @inline(__always)
    func online(_ queue: QueueID) { unsafe us_shared_online(handle, UInt32(queue.rawValue)) }

    /// The queue's thread may sleep now.
    @inline(__always)
    func offline(_ queue: QueueID) { unsafe us_shared_offline(handle, UInt32(queue.rawValue)) }

    /// A new anonymous set of one range; its address, nil when there is no memory.
    func makeRanges(offset: UInt64, length: UInt64) -> UInt? {
        guard let set = unsafe us_shared_ranges(handle, "", 0),
            unsafe us_ranges_add(set, offset, length)
        else { return nil }
        return UInt(bitPattern: set)
    }
}
