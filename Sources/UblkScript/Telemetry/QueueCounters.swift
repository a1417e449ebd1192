import CLua
import Synchronization

/// The counters of one queue.
///
/// Written by its thread, read by any.
///
/// Each counter has one writer, so counting is a plain load and store; a reader sees each number
/// whole, though not all of the same moment.
@safe
final class QueueCounters: Sendable {
    /// The counters apart from those of outcomes, in the order in which they are printed.
    enum Kind: Int, CaseIterable, Sendable {
        /// IOs that arrived, by operation.
        ///
        /// The raw values are ``IOOp``'s.
        case read = 0
        case write = 1
        case flush = 2
        case discard = 3
        case otherOp = 4
        case writeZeroes = 5
        /// IOs whose data was changed.
        case corrupted
        /// Writes of which only a part was stored.
        case torn
        /// IOs that waited for a delay.
        case delayed
        /// IOs that were held by a hang.
        case hung
        /// IOs that wait for a delay at this moment.
        case delayedNow
        /// IOs held at this moment.
        case heldNow
        /// IOs that completed with an errno of a backing.
        case backingErrors
        case scriptErrors
        /// IOs that were held when their device was taken away, and ended with EIO.
        case drained
        /// IOs of an operation that this program does not know.
        case unsupported
        /// IOs whose data the driver did not let the server copy, and that ended with EIO.
        case copyErrors
        /// IOs whose data stayed in memory that their program shares with the server.
        case sharedIOs

        /// Failures that no rule and no handler has decided.
        static let failures: [Self] = [
            .scriptErrors, .backingErrors, .drained, .unsupported, .copyErrors,
        ]

        /// All but the arrivals.
        static let others = allCases.filter { $0.rawValue >= IOTimes.operations }

        var name: String {
            switch self {
            case .otherOp: "other"
            case .writeZeroes: "write_zeroes"
            case .delayedNow: "delayed_now"
            case .heldNow: "held_now"
            case .backingErrors: "backing_errors"
            case .scriptErrors: "script_errors"
            case .copyErrors: "copy_errors"
            case .sharedIOs: "shared_ios"
            default: "\(self)"
            }
        }
    }

    // Safety: a cell a kind, then one an outcome, freed in deinit.
    private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>
    private static let count = Kind.allCases.count + Int(US_OUTCOME_COUNT.rawValue)

    init() {
        unsafe cells = .allocate(capacity: Self.count)
        for index in 0..<Self.count { unsafe (cells + index).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe cells.deinitialize(count: Self.count)
        unsafe cells.deallocate()
    }

    subscript(kind: Kind) -> UInt64 { unsafe cells[kind.rawValue].load(ordering: .relaxed) }

    /// Number of IOs of this operation that arrived.
    subscript(arrived op: IOOp) -> UInt64 {
        unsafe cells[Int(op.rawValue)].load(ordering: .relaxed)
    }

    /// Number of IOs with this outcome.
    subscript(outcome: Outcome) -> UInt64 {
        unsafe cells[Kind.allCases.count + Int(outcome.number)].load(ordering: .relaxed)
    }

    /// The queue's thread only.
    @inline(__always)
    func add(_ kind: Kind) {
        let value = unsafe cells[kind.rawValue].load(ordering: .relaxed)
        unsafe cells[kind.rawValue].store(value &+ 1, ordering: .relaxed)
    }

    /// Counts an IO that arrived; the queue's thread only.
    @inline(__always)
    func add(arrived op: IOOp) {
        let cell = unsafe cells + Int(op.rawValue)
        unsafe cell.pointee.store(cell.pointee.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    }

    /// Counts the end of an IO; the queue's thread only.
    ///
    /// - Parameter outcome: that of its decision.
    func add(outcome: UInt8) {
        precondition(UInt32(outcome) < US_OUTCOME_COUNT.rawValue)
        let cell = unsafe cells + Kind.allCases.count + Int(outcome)
        unsafe cell.pointee.store(cell.pointee.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    }

    /// The queue's thread only.
    @inline(__always)
    func subtract(_ kind: Kind) {
        let value = unsafe cells[kind.rawValue].load(ordering: .relaxed)
        unsafe cells[kind.rawValue].store(value &- 1, ordering: .relaxed)
    }

    /// A counter with the name that is printed.
    typealias Named = (name: String, value: @Sendable (QueueCounters) -> UInt64)

    /// The counters of all outcomes and then of these kinds, in the order in which they are printed.
    static func named(_ kinds: [Kind] = Kind.others) -> [Named] {
        Outcome.all.compactMap { outcome in
            outcome.counter.map { ($0, { counters in counters[outcome] }) }
        } + kinds.map { kind in (kind.name, { counters in counters[kind] }) }
    }

    /// IOs of every operation that arrived.
    var total: UInt64 {
        IOOp.allCases.reduce(self[.otherOp]) { $0 + self[arrived: $1] }
    }
}
