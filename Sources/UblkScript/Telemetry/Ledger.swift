import CLua
import Synchronization

/// One record of what was done to an IO on behalf of the script or of `ctl`.
struct LedgerRecord: TimedRecord {
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

/// The latest records of a queue: the ground truth that a test compares with.
///
/// A ``RecordRing`` that also counts, by rule, what it had no room for any more.
@safe
final class Ledger: Sendable {
    /// Number of records that a queue keeps by default.
    static let usualCapacity = 8192

    let records: RecordRing<LedgerRecord>
    // Safety: ``rulesMax`` elements, freed in deinit.
    /// How many records of each rule were overwritten; the place is the rule's number, counted from
    /// ``LedgerRecord/nobody``.
    private nonisolated(unsafe) let overwritten: UnsafeMutablePointer<Atomic<UInt64>>
    /// Rules beyond are counted together, in the last place.
    private static let rulesMax = 1024

    init(queue: QueueID, capacity: Int = Ledger.usualCapacity) {
        records = RecordRing(queue: queue, capacity: capacity)
        unsafe overwritten = .allocate(capacity: Self.rulesMax)
        for place in 0..<Self.rulesMax { unsafe (overwritten + place).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe overwritten.deinitialize(count: Self.rulesMax)
        unsafe overwritten.deallocate()
    }

    var queue: QueueID { records.queue }

    /// Queue thread only.
    func append(_ record: LedgerRecord) {
        let writer = records.writer
        if let oldest = writer.oldest { countOverwritten(oldest.rule) }
        writer.append(record)
    }

    private func countOverwritten(_ rule: Int32) {
        let counter = unsafe overwritten + min(Int(rule - LedgerRecord.nobody), Self.rulesMax - 1)
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
    var total: UInt64 { records.total }

    /// As ``RecordRing/read(from:limit:)``.
    func read(
        from first: UInt64,
        limit: Int
    ) -> (records: [LedgerRecord], next: UInt64, lost: UInt64) {
        records.read(from: first, limit: limit)
    }
}
