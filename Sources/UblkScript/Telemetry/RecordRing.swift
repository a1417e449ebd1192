import Synchronization

/// The latest records of one kind that a queue has written, in a ring of fixed size.
///
/// The queue's thread appends, without waiting for anybody; any other thread reads. What a reader
/// came too late for is counted, never silently missing.
///
/// A sequence lock without a lock: the writer says that it begins, writes, and says that it is done; a reader copies
/// what is done, and then looks how far the writer has begun to overwrite it. The two fences keep the copying between
/// the two looks on machines that reorder (arm64).
@safe
final class RecordRing<Record: BitwiseCopyable>: Sendable {
    let queue: QueueID
    let capacity: Int
    // Safety: `capacity` records and the two numbers behind `begun`, freed in deinit. One thread writes; readers copy
    // and then look whether what they copied was overwritten meanwhile.
    private nonisolated(unsafe) let records: UnsafeMutablePointer<Record>
    /// How many records the writer has begun, and behind that how many it has finished.
    private nonisolated(unsafe) let begun: UnsafeMutablePointer<Atomic<UInt64>>

    init(queue: QueueID, capacity: Int) {
        self.queue = queue
        self.capacity = capacity
        unsafe records = .allocate(capacity: capacity)
        unsafe begun = .allocate(capacity: 2)
        for number in 0..<2 { unsafe (begun + number).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe records.deallocate()
        unsafe begun.deinitialize(count: 2)
        unsafe begun.deallocate()
    }

    /// Appends; the queue's thread only.
    ///
    /// A value, because the IO path counts no references: whoever keeps one keeps the ring too.
    @safe
    struct Writer {
        // Safety: see ``RecordRing/records``.
        fileprivate let records: UnsafeMutablePointer<Record>
        fileprivate let begun: UnsafeMutablePointer<Atomic<UInt64>>
        fileprivate let capacity: UInt64

        /// Number of records appended so far.
        @inline(__always)
        var total: UInt64 { unsafe begun[1].load(ordering: .relaxed) }

        /// The record whose place the next one takes; nil: its place was never used.
        @inline(__always)
        var oldest: Record? {
            let total = total
            return unsafe total < capacity ? nil : records[Int(total % capacity)]
        }

        @inline(__always)
        func append(_ record: Record) {
            let index = total
            unsafe begun[0].store(index &+ 1, ordering: .relaxed)
            // No byte of the record is written before others can see that it is begun.
            atomicMemoryFence(ordering: .releasing)
            unsafe records[Int(index % capacity)] = record
            unsafe begun[1].store(index &+ 1, ordering: .releasing)
        }
    }

    var writer: Writer {
        unsafe Writer(records: records, begun: begun, capacity: UInt64(capacity))
    }

    /// Number of records appended so far.
    var total: UInt64 { unsafe begun[1].load(ordering: .acquiring) }

    /// Records from number `first` (from 0) on, at most `limit`.
    ///
    /// - Returns: the records; the number of the one behind the last; how many from `first` on are
    ///   overwritten already.
    func read(
        from first: UInt64,
        limit: Int
    ) -> (records: [Record], next: UInt64, lost: UInt64) {
        let end = total
        let capacity = UInt64(self.capacity)
        let start = min(max(first, end > capacity ? end - capacity : 0), end)
        let next = start + min(end - start, UInt64(limit))
        var copies: [Record] = []
        copies.reserveCapacity(Int(next - start))
        for index in start..<next { unsafe copies.append(records[Int(index % capacity)]) }
        // No byte is copied after this look.
        atomicMemoryFence(ordering: .acquiring)
        let overwriting = unsafe begun[0].load(ordering: .relaxed)
        let safe = overwriting > capacity ? overwriting - capacity : 0
        let torn = min(next, max(start, safe)) - start
        copies.removeFirst(Int(torn))
        let lost = start + torn > first ? start + torn - first : 0
        return (copies, next, lost)
    }
}
