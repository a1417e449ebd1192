import Glibc
import Synchronization

/// What the rules of a device have done, and whether they are on; shared by all queues.
///
/// Any thread: every number is an atomic of its own.
@safe
final class RuleCounters: Sendable {
    /// The counters of one rule.
    private struct Cell: ~Copyable {
        let fitting = Atomic<UInt64>(0)
        let acted = Atomic<UInt64>(0)
        /// Bits of ``Hold``; 0: the rule is on.
        let holds = Atomic<UInt8>(0)
        /// Number of further fitting IOs that belong to the current run.
        let running = Atomic<UInt32>(0)
        let stallEnd = Atomic<UInt64>(0)
    }

    // Safety: a cell a rule, freed in deinit.
    private nonisolated(unsafe) let cells: UnsafeMutablePointer<Cell>
    let count: Int
    /// When faults were armed, on the queues' clock.
    private let start = Atomic<UInt64>(0)
    private let ops = Atomic<UInt64>(0)
    private let bytes = Atomic<UInt64>(0)

    /// - Parameter predecessor: those of the script that was loaded before; the device's clock goes on.
    init(count: Int, after predecessor: RuleCounters? = nil) {
        self.count = count
        if let old = predecessor {
            start.store(old.start.load(ordering: .relaxed), ordering: .relaxed)
        }
        unsafe cells = .allocate(capacity: max(1, count))
        for index in 0..<count { unsafe (cells + index).initialize(to: Cell()) }
    }

    /// Continues the totals of the script that ran before.
    func takeTotals(of old: RuleCounters) {
        ops.store(old.ops.load(ordering: .relaxed), ordering: .relaxed)
        bytes.store(old.bytes.load(ordering: .relaxed), ordering: .relaxed)
    }

    deinit {
        unsafe cells.deinitialize(count: count)
        unsafe cells.deallocate()
    }

    /// The device's clock starts; before faults are armed.
    func startClock(at instant: Instant) {
        start.store(instant.nanoseconds, ordering: .relaxed)
    }

    /// Nanoseconds since ``startClock(at:)``.
    @inline(__always)
    func deviceTime(_ now: Instant) -> UInt64 {
        let start = start.load(ordering: .relaxed)
        return now.nanoseconds > start ? now.nanoseconds - start : 0
    }

    /// When it is `time` on the device's clock.
    func instant(at time: UInt64) -> Instant {
        let (sum, overflow) = time.addingReportingOverflow(start.load(ordering: .relaxed))
        return Instant(nanoseconds: overflow ? .max : sum)
    }

    /// Counts an IO of the device.
    ///
    /// - Returns: the number of IOs so far, this one included, and the bytes of the earlier ones.
    @inline(__always)
    func countArriving(bytes length: UInt64) -> (ops: UInt64, bytes: UInt64) {
        (
            ops.wrappingAdd(1, ordering: .relaxed).newValue,
            bytes.wrappingAdd(length, ordering: .relaxed).oldValue
        )
    }

    /// Counts an IO that fits everything but count and chance.
    ///
    /// - Returns: the number of the IO among those, from 1.
    @inline(__always)
    func countFitting(_ index: Int) -> UInt64 {
        unsafe cells[index].fitting.wrappingAdd(1, ordering: .relaxed).newValue
    }

    /// Counts an IO the rule acts on; false when the rule has used up its `limit` (0: none).
    @inline(__always)
    func countActing(_ index: Int, limit: UInt64) -> Bool {
        guard limit != 0 else {
            unsafe cells[index].acted.wrappingAdd(1, ordering: .relaxed)
            return true
        }
        // Compare-and-swap, so that readers never see a count above the limit.
        var acted = unsafe cells[index].acted.load(ordering: .relaxed)
        while acted < limit {
            let (isDone, now) = unsafe cells[index].acted.weakCompareExchange(
                expected: acted,
                desired: acted + 1,
                ordering: .relaxed
            )
            if isDone { return true }
            acted = now
        }
        return false
    }

    /// Takes back the count of an act of a rule that only delays, because no IO had to wait.
    func uncountActing(_ index: Int) {
        unsafe cells[index].acted.wrappingSubtract(1, ordering: .relaxed)
    }

    /// Begins a run: the rule acts on the next `count` IOs that fit.
    func startRunning(_ index: Int, _ count: UInt32) {
        unsafe cells[index].running.store(count, ordering: .relaxed)
    }

    /// Uses up one IO of the rule's run.
    ///
    /// - Returns: false when no run is under way.
    func goesOnRunning(_ index: Int) -> Bool {
        var left = unsafe cells[index].running.load(ordering: .relaxed)
        while left != 0 {
            let (isDone, now) = unsafe cells[index].running.weakCompareExchange(
                expected: left,
                desired: left - 1,
                ordering: .relaxed
            )
            if isDone { return true }
            left = now
        }
        return false
    }

    /// How many IOs the rule acted on.
    func acted(_ index: Int) -> UInt64 {
        precondition(index < count)
        return unsafe cells[index].acted.load(ordering: .relaxed)
    }

    /// When the rule's stall is over, on the device's clock.
    @inline(__always)
    func stallEnd(_ index: Int) -> UInt64 { unsafe cells[index].stallEnd.load(ordering: .relaxed) }

    func stall(_ index: Int, until end: UInt64) {
        unsafe cells[index].stallEnd.store(end, ordering: .relaxed)
    }

    /// A rule that is off matches nothing and counts nothing.
    @inline(__always)
    func isOn(_ index: Int) -> Bool { unsafe cells[index].holds.load(ordering: .relaxed) == 0 }

    /// What keeps a rule from acting.
    enum Hold: UInt8 {
        /// `ctl rule off`.
        case off = 1
        /// Its trigger file is not there.
        case noTrigger = 2
    }

    func turn(_ index: Int, on isOn: Bool, _ hold: Hold = .off) {
        precondition(index < count)
        if isOn {
            unsafe cells[index].holds.bitwiseAnd(~hold.rawValue, ordering: .relaxed)
        } else {
            unsafe cells[index].holds.bitwiseOr(hold.rawValue, ordering: .relaxed)
        }
    }

    /// Looks which trigger files are there.
    func lookForTriggers(_ rules: [RuleLabel]) {
        for (index, rule) in rules.enumerated() {
            guard let path = rule.trigger else { continue }
            turn(index, on: unsafe access(path, F_OK) == 0, .noTrigger)
        }
    }
}
