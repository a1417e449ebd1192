import CLua
import Synchronization

/// One record of what was done to an IO on behalf of the script or of `ctl`.
struct LedgerRecord {
    enum Kind: UInt8, CaseIterable {
        /// A rule or a handler decided; ``decision`` says what.
        case decided
        /// A write took its bytes out of the range of a heal rule.
        case healed
        /// The handler raised; ``decision`` says what the IO got for it.
        case scriptError
        /// A held IO was let go by `ctl release`; ``decision`` says what it got.
        case released
        /// A held or delayed IO was let go because its device is being taken away.
        case drained
        /// The backing failed, or a place is past its end; ``decision`` has the errno.
        case backingError
        /// The driver sent an operation that this program does not know.
        case unsupported
        /// The driver did not let the server copy the data.
        case copyError
    }

    /// Values of ``rule`` besides the number of a rule in file order.
    static let handler: Int32 = -1
    static let nobody: Int32 = -2

    var kind = Kind.decided
    var op: UInt8 = 0
    var tag: UInt16 = 0
    /// The `op_flags` of the IO.
    var flags: UInt32 = 0
    /// Nanoseconds on the device's clock.
    var time: UInt64 = 0
    /// Number of the IO, counted by its queue.
    var sequence: UInt64 = 0
    var offset: UInt64 = 0
    var length: UInt64 = 0
    var rule: Int32 = Self.nobody
    /// The verdict of this rule or handler; its delay is the one that was drawn.
    var decision = us_decision()
    /// State of the random stream that took part in the decision, after its last number; 0: no stream did.
    var random: UInt64 = 0

    init(_ kind: Kind, _ io: us_io, time: UInt64, rule: Int32 = Self.nobody) {
        self.kind = kind
        op = io.op
        tag = io.tag
        flags = io.flags
        sequence = io.sequence
        offset = io.offset
        length = io.length
        self.time = time
        self.rule = rule
    }
}

/// The latest records of a queue, in a ring of fixed size: the ground truth that a test compares
/// with.
///
/// The queue's thread appends, without waiting for anybody; any other thread reads. What a reader
/// came too late for is counted, never silently missing.
///
/// A sequence lock without a lock: the writer says that it begins, writes, and says that it is done; a reader copies
/// what is done, and then looks how far the writer has begun to overwrite it. The two fences keep the copying between
/// the two looks on machines that reorder (arm64).
@safe
final class Ledger: Sendable {
    /// Number of records that a queue keeps by default.
    static let usualCapacity = 8192

    let queue: QueueID
    let capacity: Int
    // Safety: `capacity` records, freed in deinit. One thread writes; readers copy and then look
    // whether what they copied was overwritten meanwhile.
    private nonisolated(unsafe) let records: UnsafeMutableRawPointer
    /// Records that the writer has begun, and those it has finished.
    private let begun = Atomic<UInt64>(0)
    // Safety: ``rulesMax`` elements, freed in deinit.
    /// How many records of each rule were overwritten; the place is the rule's number, counted from
    /// ``LedgerRecord/nobody``.
    private nonisolated(unsafe) let overwritten: UnsafeMutablePointer<Atomic<UInt64>>
    /// Rules beyond are counted together, in the last place.
    private static let rulesMax = 1024
    private let count = Atomic<UInt64>(0)

    init(queue: QueueID, capacity: Int = Ledger.usualCapacity) {
        self.queue = queue
        self.capacity = capacity
        unsafe records = .allocate(
            byteCount: capacity * MemoryLayout<LedgerRecord>.stride,
            alignment: MemoryLayout<LedgerRecord>.alignment
        )
        unsafe overwritten = .allocate(capacity: Self.rulesMax)
        for place in 0..<Self.rulesMax { unsafe (overwritten + place).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe records.deallocate()
        unsafe overwritten.deinitialize(count: Self.rulesMax)
        unsafe overwritten.deallocate()
    }

    private func place(_ index: UInt64) -> UnsafeMutableRawPointer {
        let slot = Int(index % UInt64(capacity))
        return unsafe records + slot * MemoryLayout<LedgerRecord>.stride
    }

    /// Queue thread only.
    func append(_ record: LedgerRecord) {
        let index = count.load(ordering: .relaxed)
        if index >= UInt64(capacity) { countOverwritten(index) }
        begun.store(index &+ 1, ordering: .relaxed)
        // No byte of the record is written before others can see that it is begun.
        atomicMemoryFence(ordering: .releasing)
        unsafe place(index).storeBytes(of: record, as: LedgerRecord.self)
        count.store(index &+ 1, ordering: .releasing)
    }

    /// The record with that number takes the place of an older one.
    private func countOverwritten(_ index: UInt64) {
        let rule = unsafe place(index).load(as: LedgerRecord.self).rule - LedgerRecord.nobody
        let counter = unsafe overwritten + min(Int(rule), Self.rulesMax - 1)
        let value = unsafe counter.pointee.load(ordering: .relaxed)
        unsafe counter.pointee.store(value &+ 1, ordering: .relaxed)
    }

    /// How many records of which rule were overwritten so far; the rule `Int32.max` stands for all with larger numbers
    /// than are counted.
    var overwrittenByRule: [(rule: Int32, count: UInt64)] {
        (0..<Self.rulesMax).compactMap { place in
            let count = unsafe overwritten[place].load(ordering: .relaxed)
            guard count > 0 else { return nil }
            let isRest = place == Self.rulesMax - 1
            return (isRest ? .max : Int32(place) + LedgerRecord.nobody, count)
        }
    }

    /// Number of records appended so far.
    var total: UInt64 { count.load(ordering: .acquiring) }

    /// Records from number `first` (from 0) on, at most `limit`.
    ///
    /// - Returns: the records; the number of the one behind the last; how many from `first` on are
    ///   overwritten already.
    func read(
        from first: UInt64,
        limit: Int
    ) -> (records: [LedgerRecord], next: UInt64, lost: UInt64) {
        let end = total
        let capacity = UInt64(self.capacity)
        let start = min(max(first, end > capacity ? end - capacity : 0), end)
        let next = start + min(end - start, UInt64(limit))
        var copies: [LedgerRecord] = []
        copies.reserveCapacity(Int(next - start))
        for index in start..<next {
            copies.append(unsafe place(index).load(as: LedgerRecord.self))
        }
        // No byte is copied after this look.
        atomicMemoryFence(ordering: .acquiring)
        let overwriting = begun.load(ordering: .relaxed)
        let safe = overwriting > capacity ? overwriting - capacity : 0
        let torn = min(next, max(start, safe)) - start
        copies.removeFirst(Int(torn))
        let lost = start + torn > first ? start + torn - first : 0
        return (copies, next, lost)
    }
}
