import Glibc
import Synchronization

/// Counters and switches of the rules of one loaded script, and the device's clock; shared by all queues.
///
/// They may be in a file that outlives the process, where the next server of the device finds them. Any thread: every
/// number is an atomic of its own.
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
        /// Number of IOs among ``acted`` that the rule holds, see ``RuleSet/ruleOfHang(_:)``; modulo 65,536.
        let held = Atomic<UInt16>(0)
        /// Number of further matching IOs that belong to the current run.
        let running = Atomic<UInt32>(0)
        /// Nanoseconds on the device's clock at which the current stall ends.
        let stallEnd = Atomic<UInt64>(0)
    }

    /// What is kept of the whole device, before the entries.
    fileprivate struct Head: ~Copyable {
        /// See ``MappedFile/isOf(_:)``.
        let identity = Atomic<UInt64>(0)
        /// See ``RuleCounters/start``.
        let start = Atomic<UInt64>(0)
        let ops = Atomic<UInt64>(0)
        let bytes = Atomic<UInt64>(0)
        /// 1: `ctl pause` was given.
        let isPaused = Atomic<UInt8>(0)
    }

    private static let headBytes = 64

    /// Another number whenever ``Head`` or ``Entry`` mean something else.
    static let layout = 2

    /// Bytes of the counters of that many rules.
    static func bytes(count: Int) -> Int { headBytes + count * MemoryLayout<Entry>.stride }

    // Safety: `head` is at the start of ``bytes(count:)`` bytes, `entries` behind it; `file` has them, or else they are
    // freed in deinit.
    private nonisolated(unsafe) let head: UnsafeMutablePointer<Head>
    private nonisolated(unsafe) let entries: UnsafeMutablePointer<Entry>
    private let file: MappedFile?
    /// Number of rules.
    let count: Int
    /// When faults were armed, on the queues' clock, which other processes share.
    private let start: Atomic<UInt64>

    /// - Parameters:
    ///   - file: where they are kept, of ``bytes(count:)`` bytes: zeroes, or the counters of as many rules, which go
    ///     on; nil: in memory of this process.
    ///   - predecessor: the counters of the script that runs now, whose device clock goes on; nil: none.
    init(count: Int, in file: MappedFile? = nil, after predecessor: RuleCounters? = nil) {
        self.count = count
        self.file = file
        let memory: UnsafeMutableRawPointer
        if let file {
            precondition(file.count == Self.bytes(count: count))
            unsafe memory = file.bytes
        } else {
            let bytes = Self.bytes(count: count)
            unsafe memory = .allocate(byteCount: bytes, alignment: Self.headBytes)
            // As a new file: an atomic of 0 is all zeroes.
            unsafe memset(memory, 0, bytes)
        }
        unsafe head = memory.bindMemory(to: Head.self, capacity: 1)
        unsafe entries = (memory + Self.headBytes).bindMemory(to: Entry.self, capacity: count)
        if let old = predecessor {
            unsafe head.pointee.start.store(
                old.start.load(ordering: .relaxed),
                ordering: .relaxed
            )
        }
        start = unsafe Atomic(head.pointee.start.load(ordering: .relaxed))
    }

    /// Continues the device's totals of the script that ran before, and its pause.
    func takeTotals(of old: RuleCounters) {
        unsafe head.pointee.ops.store(
            old.head.pointee.ops.load(ordering: .relaxed),
            ordering: .relaxed
        )
        unsafe head.pointee.bytes.store(
            old.head.pointee.bytes.load(ordering: .relaxed),
            ordering: .relaxed
        )
        isPaused = old.isPaused
    }

    deinit {
        if file == nil { unsafe UnsafeMutableRawPointer(head).deallocate() }
    }

    /// Starts the device's clock, unless an earlier server has; call before faults are armed.
    func startClock(at instant: Instant) {
        guard start.load(ordering: .relaxed) == 0 else { return }
        start.store(instant.nanoseconds, ordering: .relaxed)
        unsafe head.pointee.start.store(instant.nanoseconds, ordering: .relaxed)
    }

    /// `ctl pause` was given, and no `ctl resume` since.
    var isPaused: Bool {
        get { unsafe head.pointee.isPaused.load(ordering: .relaxed) != 0 }
        set { unsafe head.pointee.isPaused.store(newValue ? 1 : 0, ordering: .relaxed) }
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

    /// The totals of the device: IOs that have arrived, and the bytes they asked for.
    ///
    /// For one who keeps the counters, too: it spares the IO path a step on the way there.
    @safe
    struct Totals {
        // Safety: of counters that live as long.
        fileprivate let head: UnsafeMutablePointer<Head>

        /// Counts an IO of the device.
        ///
        /// - Returns: the number of IOs so far, this one included, and the bytes of the earlier ones.
        @inline(__always)
        func countArriving(bytes length: UInt64) -> (ops: UInt64, bytes: UInt64) {
            unsafe (
                head.pointee.ops.wrappingAdd(1, ordering: .relaxed).newValue,
                head.pointee.bytes.wrappingAdd(length, ordering: .relaxed).oldValue
            )
        }
    }

    var totals: Totals { unsafe Totals(head: head) }

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

    /// Counts an IO that the rule holds from now on, or no longer.
    func hold(_ index: Int, _ holds: Bool) {
        precondition(index < count)
        if holds {
            unsafe entries[index].held.wrappingAdd(1, ordering: .relaxed)
        } else {
            unsafe entries[index].held.wrappingSubtract(1, ordering: .relaxed)
        }
    }

    /// The server that held IOs is dead, and they are gone.
    ///
    /// - Parameter comeAgain: the next one gets them again, so that they have not been counted yet.
    func forgetHeld(comeAgain: Bool) {
        for index in 0..<count {
            let held = UInt64(unsafe entries[index].held.exchange(0, ordering: .relaxed))
            guard comeAgain, held > 0 else { continue }
            let acted = unsafe entries[index].acted.load(ordering: .relaxed)
            unsafe entries[index].acted.store(acted - min(acted, held), ordering: .relaxed)
            // 0 when nobody asks.
            let fitting = unsafe entries[index].fitting.load(ordering: .relaxed)
            unsafe entries[index].fitting.store(fitting - min(fitting, held), ordering: .relaxed)
        }
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
