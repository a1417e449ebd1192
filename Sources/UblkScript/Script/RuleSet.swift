import CLua
import Synchronization

/// The rules of a device, in file order, as one queue tries them.
///
/// Queue thread only; counts are shared by all queues.
///
/// No allocation, no lock: the counts of `nth`, `every` and `times` are atomic adds that only rules
/// with such keys pay for.
@safe
struct RuleSet: ~Copyable {
    // Safety: `count` elements each, freed in deinit; `counters` keeps its own memory.
    private let rules: UnsafeMutablePointer<Rule>
    private let streams: UnsafeMutablePointer<us_random>
    let count: Int
    private let counters: RuleCounters
    private var index: RuleIndex

    /// The most heal rules a script may have: each has a bit in a request's mask.
    static let healRulesMax = 64

    init(
        _ list: [Rule],
        counters: RuleCounters,
        shared: SharedObjects,
        seed: UInt64,
        queue: QueueID
    ) {
        count = list.count
        self.counters = counters
        unsafe rules = .allocate(capacity: max(1, count))
        unsafe streams = .allocate(capacity: max(1, count))
        var healBit: UInt64 = 1
        for (index, rule) in list.enumerated() {
            unsafe (rules + index).initialize(to: rule)
            if rule.heals {
                unsafe rules[index].healBit = healBit
                healBit &<<= 1
            }
            // Stream 0 is the script's random().
            unsafe (streams + index).initialize(
                to: us_random_stream(seed, UInt32(queue.rawValue), UInt32(index + 1))
            )
        }
        unsafe index = RuleIndex(rules, count: count, shared: shared)
    }

    deinit {
        unsafe rules.deallocate()
        unsafe streams.deallocate()
    }

    /// Adds what the matching rules say to `decision`.
    ///
    /// - Parameter heals: gets a bit for each heal rule that matched, for ``heal(_:offset:length:)``.
    /// - Returns: true when a rule settled the outcome, so that the script's handler is not asked.
    @inline(__always)
    mutating func match(
        op: IOOp,
        offset: UInt64,
        length: UInt64,
        decision: inout us_decision,
        heals: inout UInt64
    ) -> Bool {
        let (sum, overflow) = offset.addingReportingOverflow(length)
        let end = overflow ? UInt64.max : sum
        let candidates = unsafe index.candidates(rules, op: op, offset: offset, end: end)
        for place in 0..<candidates.count {
            let index = candidates[place]
            let rule = unsafe rules + index
            if let range = unsafe rule.pointee.range {
                guard self.index.mayHit(index, offset: offset, end: end),
                    unsafe us_ranges_overlaps(range, offset, length)
                else { continue }
            }
            guard acts(index) else { continue }
            unsafe heals |= rule.pointee.healBit
            let (sum, overflow) = unsafe decision.delay_ns.addingReportingOverflow(
                rule.pointee.decision.delay_ns
            )
            let delay = overflow ? UInt64.max : sum
            decision.delay_ns = delay
            guard unsafe rule.pointee.isTerminal else { continue }
            decision = unsafe rule.pointee.decision
            decision.delay_ns = delay
            return true
        }
        return false
    }

    /// Counting and chance, once op and range fit.
    @inline(__always)
    private mutating func acts(_ index: Int) -> Bool {
        let rule = unsafe rules + index
        if unsafe rule.pointee.nth | rule.pointee.every != 0 {
            let seen = counters.countFitting(index)
            if unsafe rule.pointee.nth != 0, unsafe rule.pointee.nth != seen { return false }
            if unsafe rule.pointee.every != 0, unsafe seen % rule.pointee.every != 0 {
                return false
            }
        }
        if let chance = unsafe rule.pointee.chance {
            guard unsafe us_random_next(streams + index) < chance else { return false }
        }
        return unsafe counters.countActing(index, limit: rule.pointee.times)
    }

    /// Takes the bytes of a write that succeeded out of the ranges of the heal rules in the mask.
    func heal(_ mask: UInt64, offset: UInt64, length: UInt64) {
        for index in 0..<count where unsafe rules[index].healBit & mask != 0 {
            guard let range = unsafe rules[index].range else { continue }
            unsafe us_ranges_remove(range, offset, length)
        }
    }
}

/// How often each rule fitted and acted, over all queues of a device.
///
/// Any thread.
@safe
final class RuleCounters: Sendable {
    // Safety: two cells a rule, freed in deinit.
    private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>
    let count: Int

    init(count: Int) {
        self.count = count
        unsafe cells = .allocate(capacity: max(1, count * 2))
        for index in 0..<count * 2 { unsafe (cells + index).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe cells.deinitialize(count: count * 2)
        unsafe cells.deallocate()
    }

    /// Counts an IO that fits op and range; its number, from 1.
    @inline(__always)
    func countFitting(_ index: Int) -> UInt64 {
        unsafe cells[index * 2].wrappingAdd(1, ordering: .relaxed).newValue
    }

    /// Counts an IO the rule acts on; false when the rule has used up its `limit` (0: none).
    @inline(__always)
    func countActing(_ index: Int, limit: UInt64) -> Bool {
        let acted = unsafe cells[index * 2 + 1].wrappingAdd(1, ordering: .relaxed).newValue
        guard limit != 0, acted > limit else { return true }
        unsafe cells[index * 2 + 1].wrappingSubtract(1, ordering: .relaxed)
        return false
    }

    /// How many IOs the rule acted on.
    func acted(_ index: Int) -> UInt64 {
        precondition(index < count)
        return unsafe cells[index * 2 + 1].load(ordering: .relaxed)
    }
}
