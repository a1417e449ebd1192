import Glibc
import Synchronization

/// Counters and switches of the rules of one loaded script, and the device's clock; shared by all queues.
///
/// Any thread: every number is an atomic of its own.
@safe
final class RuleCounters: Sendable {
    /// The counters of one rule.
    private struct Entry: ~Copyable {
        /// Number of IOs that matched everything but the rule's count and chance.
        let fitting = Atomic<UInt64>(0)
        /// Number of IOs that the rule acted on.
        let acted = Atomic<UInt64>(0)
        /// Bits of ``Hold``; 0: the rule is on.
        let holds = Atomic<UInt8>(0)
        /// Number of further matching IOs that belong to the current run.
        let running = Atomic<UInt32>(0)
        /// Nanoseconds on the device's clock at which the current stall ends.
        let stallEnd = Atomic<UInt64>(0)
    }

    // Safety: `count` entries, freed in deinit.
    private nonisolated(unsafe) let entries: UnsafeMutablePointer<Entry>
    /// Number of rules.
    let count: Int
    /// When faults were armed, on the queues' clock.
    private let start = Atomic<UInt64>(0)
    /// Totals of the device: IOs that have arrived, and the bytes they asked for.
    private let ops = Atomic<UInt64>(0)
    private let bytes = Atomic<UInt64>(0)

    /// - Parameter predecessor: the counters of the script that runs now, whose device clock goes on; nil: none.
    init(count: Int, after predecessor: RuleCounters? = nil) {
        self.count = count
        if let old = predecessor {
            start.store(old.start.load(ordering: .relaxed), ordering: .relaxed)
        }
        unsafe entries = .allocate(capacity: max(1, count))
        for index in 0..<count { unsafe (entries + index).initialize(to: Entry()) }
    }

    /// Continues the device's totals of the script that ran before.
    func takeTotals(of old: RuleCounters) {
        ops.store(old.ops.load(ordering: .relaxed), ordering: .relaxed)
        bytes.store(old.bytes.load(ordering: .relaxed), ordering: .relaxed)
    }

    deinit {
        unsafe entries.deinitialize(count: count)
        unsafe entries.deallocate()
    }

    /// Starts the device's clock; call before faults are armed.
    func startClock(at instant: Instant) {
        start.store(instant.nanoseconds, ordering: .relaxed)
    }

    /// Nanoseconds since ``startClock(at:)``.
    @inline(__always)
    func deviceTime(_ now: Instant) -> UInt64 {
        let start = start.load(ordering: .relaxed)
        return now.nanoseconds > start ? now.nanoseconds - start : 0
    }

    /// The instant of a time on the device's clock.
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

    /// Counts an IO that matches everything but the rule's count and chance.
    ///
    /// - Returns: the number of such IOs so far, this one included.
    @inline(__always)
    func countFitting(_ index: Int) -> UInt64 {
        unsafe entries[index].fitting.wrappingAdd(1, ordering: .relaxed).newValue
    }

    /// Counts an IO that the rule acts on.
    ///
    /// - Returns: false, counting nothing, when the rule has already acted `limit` times (0: no limit).
    @inline(__always)
    func countActing(_ index: Int, limit: UInt64) -> Bool {
        guard limit != 0 else {
            unsafe entries[index].acted.wrappingAdd(1, ordering: .relaxed)
            return true
        }
        // Compare-and-swap, so that readers never see a count above the limit.
        var acted = unsafe entries[index].acted.load(ordering: .relaxed)
        while acted < limit {
            let (isDone, now) = unsafe entries[index].acted.weakCompareExchange(
                expected: acted,
                desired: acted + 1,
                ordering: .relaxed
            )
            if isDone { return true }
            acted = now
        }
        return false
    }

    /// Takes back one ``countActing(_:limit:)`` of a rule that only delays, because the IO did not have to wait.
    func uncountActing(_ index: Int) {
        unsafe entries[index].acted.wrappingSubtract(1, ordering: .relaxed)
    }

    /// Begins a run: the rule acts on the next `count` matching IOs.
    func startRunning(_ index: Int, _ count: UInt32) {
        unsafe entries[index].running.store(count, ordering: .relaxed)
    }

    /// Uses up one IO of the rule's run.
    ///
    /// - Returns: false when no run is under way.
    func goesOnRunning(_ index: Int) -> Bool {
        var left = unsafe entries[index].running.load(ordering: .relaxed)
        while left != 0 {
            let (isDone, now) = unsafe entries[index].running.weakCompareExchange(
                expected: left,
                desired: left - 1,
                ordering: .relaxed
            )
            if isDone { return true }
            left = now
        }
        return false
    }

    /// The number of IOs that the rule acted on.
    func acted(_ index: Int) -> UInt64 {
        precondition(index < count)
        return unsafe entries[index].acted.load(ordering: .relaxed)
    }

    /// The end of the rule's stall, nanoseconds on the device's clock.
    @inline(__always)
    func stallEnd(_ index: Int) -> UInt64 {
        unsafe entries[index].stallEnd.load(ordering: .relaxed)
    }

    func stall(_ index: Int, until end: UInt64) {
        unsafe entries[index].stallEnd.store(end, ordering: .relaxed)
    }

    /// True unless something holds the rule off; a rule that is off matches nothing and counts nothing.
    @inline(__always)
    func isOn(_ index: Int) -> Bool { unsafe entries[index].holds.load(ordering: .relaxed) == 0 }

    /// Reasons for a rule to be off; bits, as several may apply.
    enum Hold: UInt8 {
        /// `ctl rule off`.
        case off = 1
        /// The rule's trigger file does not exist.
        case noTrigger = 2
    }

    func turn(_ index: Int, on isOn: Bool, _ hold: Hold = .off) {
        precondition(index < count)
        if isOn {
            unsafe entries[index].holds.bitwiseAnd(~hold.rawValue, ordering: .relaxed)
        } else {
            unsafe entries[index].holds.bitwiseOr(hold.rawValue, ordering: .relaxed)
        }
    }

    /// Switches rules with a trigger file on or off, by whether the file exists.
    ///
    /// Makes system calls; not for queue threads.
    func lookForTriggers(_ rules: [RuleLabel]) {
        for (index, rule) in rules.enumerated() {
            guard let path = rule.trigger else { continue }
            turn(index, on: unsafe access(path, F_OK) == 0, .noTrigger)
        }
    }
}
