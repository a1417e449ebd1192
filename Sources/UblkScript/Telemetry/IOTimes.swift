import Synchronization

/// Latencies and bytes moved of the IOs of one queue, by operation.
///
/// Written by its thread, read by any; a number is one writer's, as in ``QueueCounters``.
@safe
final class IOTimes: Sendable {
    /// The times of one operation on a queue, or on several.
    struct Sum: Equatable, Sendable {
        var counts = [UInt64](repeating: 0, count: LatencySteps.count)
        var bytes: UInt64 = 0
        var nanoseconds: UInt64 = 0
        var maxNanoseconds: UInt64 = 0

        static func + (a: Sum, b: Sum) -> Sum {
            Sum(
                counts: zip(a.counts, b.counts).map(&+),
                bytes: a.bytes &+ b.bytes,
                nanoseconds: a.nanoseconds &+ b.nanoseconds,
                maxNanoseconds: max(a.maxNanoseconds, b.maxNanoseconds)
            )
        }
    }

    /// Number of operations that are told apart; number 4 stands for all others.
    static let operations = 6
    fileprivate static let bytesCell = LatencySteps.count
    fileprivate static let nanosecondsCell = LatencySteps.count + 1
    fileprivate static let maxCell = LatencySteps.count + 2
    fileprivate static let cellsEach = LatencySteps.count + 3

    // Safety: `cellsEach` an operation, freed in deinit; indices are checked against both.
    private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>

    init() {
        let count = Self.operations * Self.cellsEach
        unsafe cells = .allocate(capacity: count)
        for index in 0..<count { unsafe (cells + index).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe cells.deinitialize(count: Self.operations * Self.cellsEach)
        unsafe cells.deallocate()
    }

    /// Counts; the queue's thread only.
    ///
    /// A value, because the IO path counts no references: whoever keeps one keeps the times too.
    @safe
    struct Writer {
        // Safety: see ``IOTimes/cells``.
        fileprivate let cells: UnsafeMutablePointer<Atomic<UInt64>>

        /// Counts an IO that ended.
        ///
        /// - Parameter bytes: moved by the IO; 0 when it failed.
        @inline(__always)
        func add(_ op: UInt8, nanoseconds: UInt64, bytes: UInt64) {
            let op = op < operations ? Int(op) : QueueCounters.Kind.otherOp.rawValue
            let own = unsafe cells + op &* cellsEach
            let step = min(LatencySteps.step(nanoseconds), LatencySteps.count &- 1)
            unsafe IOTimes.raise(own + step, by: 1)
            unsafe IOTimes.raise(own + bytesCell, by: bytes)
            guard nanoseconds != 0 else { return }
            unsafe IOTimes.raise(own + nanosecondsCell, by: nanoseconds)
            if unsafe nanoseconds > own[maxCell].load(ordering: .relaxed) {
                unsafe own[maxCell].store(nanoseconds, ordering: .relaxed)
            }
        }
    }

    var writer: Writer { unsafe Writer(cells: cells) }

    @inline(__always)
    fileprivate static func raise(_ cell: UnsafeMutablePointer<Atomic<UInt64>>, by amount: UInt64) {
        let value = unsafe cell.pointee.load(ordering: .relaxed)
        unsafe cell.pointee.store(value &+ amount, ordering: .relaxed)
    }

    subscript(_ op: Int) -> Sum {
        precondition(op < Self.operations)
        let own = unsafe cells + op * Self.cellsEach
        func value(_ cell: Int) -> UInt64 { unsafe own[cell].load(ordering: .relaxed) }
        return Sum(
            counts: (0..<LatencySteps.count).map(value),
            bytes: value(Self.bytesCell),
            nanoseconds: value(Self.nanosecondsCell),
            maxNanoseconds: value(Self.maxCell)
        )
    }
}
