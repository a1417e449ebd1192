import CLua
import Synchronization

/// What one queue has done so far.
///
/// Written by its thread, read by any.
///
/// Each counter has one writer, so counting is a plain load and store; a reader sees each number
/// whole, though not all of the same moment.
@safe
final class QueueCounters: Sendable {
    /// What is counted, in the order it is printed.
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
        /// IOs that completed with an errno the script asked for.
        case failed
        case dropped
        case zeroed
        case redirected
        /// IOs that the script answered itself.
        case answered
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
        /// IOs that completed with an errno of the backing's.
        case backingErrors
        case scriptErrors
        /// IOs that were held when their device was taken away, and ended with EIO.
        case drained
        /// IOs of an operation that this program does not know.
        case unsupported

        /// What goes wrong although no rule and no handler decided so.
        static let failures: [Self] = [.scriptErrors, .backingErrors, .drained, .unsupported]

        var name: String {
            switch self {
            case .otherOp: "other"
            case .writeZeroes: "write_zeroes"
            case .delayedNow: "delayed_now"
            case .heldNow: "held_now"
            case .backingErrors: "backing_errors"
            case .scriptErrors: "script_errors"
            default: "\(self)"
            }
        }

        /// IOs that end in a way that was decided; nil: as usual.
        init?(outcome: UInt8) {
            switch UInt32(outcome) {
            case US_OUTCOME_FAIL.rawValue: self = .failed
            case US_OUTCOME_DROP.rawValue: self = .dropped
            case US_OUTCOME_ZERO.rawValue: self = .zeroed
            case US_OUTCOME_REDIRECT.rawValue: self = .redirected
            case US_OUTCOME_DONE.rawValue: self = .answered
            default: return nil
            }
        }

        init(_ op: IOOp) { self = Kind(rawValue: Int(op.rawValue)) ?? .otherOp }
    }

    // Safety: as many cells as there are kinds, freed in deinit.
    private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>

    init() {
        unsafe cells = .allocate(capacity: Kind.allCases.count)
        for kind in Kind.allCases { unsafe (cells + kind.rawValue).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe cells.deinitialize(count: Kind.allCases.count)
        unsafe cells.deallocate()
    }

    subscript(kind: Kind) -> UInt64 { unsafe cells[kind.rawValue].load(ordering: .relaxed) }

    /// The queue's thread only.
    @inline(__always)
    func add(_ kind: Kind) {
        let value = unsafe cells[kind.rawValue].load(ordering: .relaxed)
        unsafe cells[kind.rawValue].store(value &+ 1, ordering: .relaxed)
    }

    /// The queue's thread only.
    @inline(__always)
    func subtract(_ kind: Kind) {
        let value = unsafe cells[kind.rawValue].load(ordering: .relaxed)
        unsafe cells[kind.rawValue].store(value &- 1, ordering: .relaxed)
    }

    /// IOs of every operation that arrived.
    var total: UInt64 {
        IOOp.allCases.reduce(self[.otherOp]) { $0 + self[Kind($1)] }
    }
}
