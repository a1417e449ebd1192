import CLua
import Synchronization

/// One queue's copy of the rules of a script, in file order, and the loop that tries them.
///
/// Queue thread only; ``counters`` are shared by all queues.
///
/// Trying rules allocates nothing and takes no lock, except for a rule with `once`, which edits its range. The counts
/// of `nth`, `every` and `times` are atomic adds that only rules with such keys pay for.
@safe
struct RuleSet: ~Copyable {
    // Safety: `count` elements each, freed in deinit; `counters` keeps its own memory.
    private let rules: UnsafeMutablePointer<Rule>
    private let streams: UnsafeMutablePointer<SplitMix64>
    /// The last delay of each rule, which `correlation` repeats.
    private let lastDelays: UnsafeMutablePointer<UInt64>
    /// The servers of all rules with `service`.
    private let servers: UnsafeMutablePointer<RuleService.Server>
    /// The device's size.
    var deviceBytes: UInt64 = 0
    /// When each block of 4 KiB was last written; nil when no rule has `age`.
    private var writeTimes: HistoryTable<UInt64>?
    let count: Int
    let counters: RuleCounters
    private let totals: RuleCounters.Totals
    private let ledger: Ledger
    private let seed: UInt64
    /// The ledger's number of the first rule.
    private let firstRule: Int32
    /// The ledger's number of the script's handlers.
    var handlerNumber: Int32 { firstRule - 1 }
    private var index: RuleIndex
    /// Some rule uses `after` or `before` with `ops` or `bytes`.
    let needsTotals: Bool
    /// The operations whose data these rules look at or change.
    let dataNeeds: DataNeeds

    /// The most heal rules a script may have: each has a bit in a request's mask.
    static let healRulesMax = 64

    init(
        _ list: [Rule],
        counters: RuleCounters,
        shared: SharedObjects,
        ledger: Ledger,
        seed: UInt64,
        queue: QueueID,
        firstRule: Int32 = 0
    ) {
        count = list.count
        self.firstRule = firstRule
        needsTotals = list.contains {
            $0.conditions.after.needsTotals || $0.conditions.before.needsTotals
        }
        dataNeeds = DataNeeds(list)
        self.counters = counters
        totals = counters.totals
        self.ledger = ledger
        self.seed = seed
        unsafe rules = .allocate(capacity: max(1, count))
        unsafe streams = .allocate(capacity: max(1, count))
        unsafe lastDelays = .allocate(capacity: max(1, count))
        unsafe lastDelays.initialize(repeating: .max, count: max(1, count))
        var healBit: UInt64 = 1
        for (index, rule) in list.enumerated() {
            unsafe (rules + index).initialize(to: rule)
            if rule.decision.hangs != 0 {
                unsafe rules[index].decision.hangs = Self.hangs(index, rule)
            }
            if rule.heals {
                unsafe rules[index].healBit = healBit
                healBit &<<= 1
            }
            // Stream 0 is the script's random().
            unsafe (streams + index).initialize(
                to: SplitMix64(
                    seed: seed,
                    queue: UInt32(queue.rawValue),
                    stream: UInt32(index + 1)
                )
            )
        }
        var serverCount = 0
        for index in 0..<count {
            unsafe rules[index].timing.service?.firstServer = serverCount
            unsafe serverCount += rules[index].timing.service?.servers ?? 0
        }
        unsafe servers = .allocate(capacity: max(1, serverCount))
        unsafe servers.initialize(repeating: RuleService.Server(), count: max(1, serverCount))
        unsafe index = RuleIndex(rules, count: count, shared: shared)
    }

    /// A rule's `hangs` of a decision: which rule it is, so that the IO path need not note that.
    ///
    /// 1, as of a handler, where that does not fit; or with `run`, whose IOs do not each count for `nth` and `every`.
    private static func hangs(_ index: Int, _ rule: Rule) -> UInt8 {
        rule.run > 1 ? 1 : UInt8(exactly: index + 2) ?? 1
    }

    /// The rule whose decision has that `hangs`; nil: a handler, or it does not say.
    static func ruleOfHang(_ hangs: UInt8) -> Int? { hangs > 1 ? Int(hangs) - 2 : nil }

    deinit {
        unsafe rules.deallocate()
        unsafe streams.deallocate()
        unsafe lastDelays.deallocate()
        unsafe servers.deallocate()
    }

    /// Gives the rules the device's size and the history tables they need; called before the first IO.
    ///
    /// - Parameters:
    ///   - bank: of the script's unnamed objects, see ``SharedObjects``.
    ///   - deviceBytes: the device's size.
    /// - Returns: false when there is no memory for the tables.
    mutating func attach(
        _ shared: SharedObjects,
        bank: Int,
        deviceBytes: UInt64
    ) -> Bool {
        self.deviceBytes = deviceBytes
        for index in 0..<count where unsafe rules[index].history.isGiven {
            if unsafe rules[index].history.age != 0 {
                writeTimes = shared.writeTimes(deviceBytes: deviceBytes)
                unsafe rules[index].history.times = writeTimes
                if writeTimes == nil { return false }
            }
            guard unsafe rules[index].history.seen != 0 else { continue }
            let counts = shared.counts(rule: index, bank: bank, deviceBytes: deviceBytes)
            unsafe rules[index].history.counts = counts
            if counts == nil { return false }
        }
        return true
    }

    /// The time on the device's clock, which starts when faults are armed.
    @inline(__always)
    func deviceTime(_ now: Instant) -> Instant {
        Instant(nanoseconds: counters.deviceTime(now))
    }

    /// Tries the rules on an IO and adds the actions of those that match to `decision`.
    ///
    /// - Parameters:
    ///   - op: the IO's operation.
    ///   - inFlight: IOs in flight on the queue, this one included.
    ///   - segments: room for US_SEGMENTS_MAX.
    ///   - heals: gets a bit for each heal rule that matched, for ``heal(_:_:now:)``.
    ///   - data: the data of a write; nil when there is none.
    /// - Returns: true when a rule decided the outcome, so that the script's handler is not called.
    @inline(__always)
    mutating func match(
        _ io: UnsafePointer<us_io>,
        op: IOOp,
        now: Instant,
        inFlight: Int,
        data: UnsafeRawPointer?,
        decision: inout us_decision,
        segments: UnsafeMutablePointer<us_segment>,
        heals: inout UInt64
    ) -> Bool {
        let offset = unsafe io.pointee.offset
        let length = unsafe io.pointee.length
        var moment = unsafe RuleMoment(
            time: counters.deviceTime(now),
            inFlight: inFlight,
            data: data
        )
        defer { if writeTimes != nil { unsafe noteWrite(io, op, moment.time) } }
        if needsTotals { (moment.ops, moment.bytes) = totals.countArriving(bytes: length) }
        let (sum, overflow) = offset.addingReportingOverflow(length)
        let end = overflow ? UInt64.max : sum
        let candidates = unsafe index.candidates(rules, op: op, offset: offset, end: end)
        let hullEnd = max(end, 1)  // so that a flush hits rules without a range
        for place in 0..<candidates.count {
            let index = candidates[place]
            guard self.index.mayHit(index, offset: offset, end: hullEnd) else { continue }
            let rule = unsafe rules + index
            if let range = unsafe rule.pointee.range {
                guard range.overlaps(offset, length) else { continue }
            }
            let stalled = unsafe stall(index, io, moment)
            guard unsafe stalled != 0 || acts(index, io, moment) else { continue }
            let own =
                unsafe rule.pointee.hasTiming
                ? timedDelay(index, io, time: moment.time, stalled: stalled)
                : rule.pointee.decision.delay_ns
            if own == 0, unsafe rule.pointee.onlyDelays {
                counters.uncountActing(index)
                continue
            }
            unsafe applySideEffects(rule, offset: offset, length: length, time: moment.time)
            if unsafe rule.pointee.isRecorded { unsafe record(index, io, moment, delay: own) }
            unsafe heals |= rule.pointee.healBit
            decision.delay_ns = us_time_sum(decision.delay_ns, own)
            if unsafe rule.pointee.hasEffects { addEffects(index, to: &decision) }
            guard unsafe rule.pointee.isTerminal else { continue }
            unsafe us_decision_settle(&decision, &rule.pointee.decision)
            if let own = unsafe rule.pointee.segments {
                unsafe segments.update(from: own, count: Int(decision.segment_count))
            }
            return true
        }
        return false
    }

    /// The remaining time of the rule's stall, nanoseconds; 0 when there is none, or the IO does not match.
    @inline(__always)
    private func stall(
        _ index: Int,
        _ io: UnsafePointer<us_io>,
        _ moment: RuleMoment
    ) -> UInt64 {
        let rule = unsafe rules + index
        guard unsafe rule.pointee.timing.stall != 0, counters.isOn(index) else { return 0 }
        if unsafe rule.pointee.hasConditions {
            guard unsafe rule.pointee.conditions.hold(io.pointee, moment) else { return 0 }
        }
        let end = counters.stallEnd(index)
        return end > moment.time ? end - moment.time : 0
    }

    /// The delay of a rule with ``RuleTiming``, nanoseconds.
    @inline(never)
    private func timedDelay(
        _ index: Int,
        _ io: UnsafePointer<us_io>,
        time: UInt64,
        stalled: UInt64
    ) -> UInt64 {
        let rule = unsafe rules + index
        var delay = unsafe rule.pointee.decision.delay_ns
        var stalled = stalled
        if unsafe rule.pointee.timing.stall != 0 {
            if stalled == 0 {
                stalled = unsafe rule.pointee.timing.stallTime(streams + index)
                counters.stall(index, until: time + stalled)
            }
            delay += stalled
        }
        return unsafe delay
            + rule.pointee.timing.wait(
                io,
                now: time,
                streams + index,
                lastDelay: lastDelays + index,
                servers: servers,
                deviceBytes: deviceBytes
            )
    }

    /// Tries the remaining matchers of a rule whose op and range match; true when the rule acts.
    @inline(__always)
    private mutating func acts(
        _ index: Int,
        _ io: UnsafePointer<us_io>,
        _ moment: RuleMoment
    ) -> Bool {
        let rule = unsafe rules + index
        guard counters.isOn(index) else { return false }
        if unsafe rule.pointee.hasConditions {
            guard unsafe rule.pointee.conditions.hold(io.pointee, moment) else { return false }
        }
        if unsafe rule.pointee.history.isGiven {
            guard unsafe rule.pointee.history.holds(io, time: moment.time) else { return false }
        }
        if unsafe rule.pointee.run > 1, counters.goesOnRunning(index) {
            return unsafe counters.countActing(index, limit: rule.pointee.times)
        }
        if unsafe rule.pointee.nth | rule.pointee.every | rule.pointee.skip != 0 {
            let fitting = counters.countFitting(index)
            guard unsafe fitting > rule.pointee.skip else { return false }
            let seen = unsafe fitting - rule.pointee.skip
            if unsafe rule.pointee.nth != 0, unsafe rule.pointee.nth != seen { return false }
            if unsafe rule.pointee.every != 0, unsafe seen % rule.pointee.every != 0 {
                return false
            }
        }
        if let chance = unsafe rule.pointee.chance {
            guard unsafe streams[index].next() < chance else { return false }
        }
        guard unsafe counters.countActing(index, limit: rule.pointee.times) else { return false }
        if unsafe rule.pointee.run > 1 {
            unsafe counters.startRunning(index, rule.pointee.run - 1)
        }
        return true
    }

    /// Notes the time of a write for `age`.
    @inline(never)
    private func noteWrite(_ io: UnsafePointer<us_io>, _ op: IOOp, _ time: UInt64) {
        guard op != .read, op != .flush else { return }
        unsafe writeTimes?.write(
            offset: io.pointee.offset,
            length: io.pointee.length,
            time: time
        )
    }

    /// Sets the mark and the state of a rule that acts, and removes the IO's bytes from a range with `once`.
    @inline(__always)
    private func applySideEffects(
        _ rule: UnsafePointer<Rule>,
        offset: UInt64,
        length: UInt64,
        time: UInt64
    ) {
        if let mark = unsafe rule.pointee.mark { mark.mark(at: time) }
        if let state = unsafe rule.pointee.state {
            unsafe state.set(rule.pointee.newState)
        }
        if unsafe rule.pointee.isOnce, let range = unsafe rule.pointee.range {
            range.remove(offset, length)
        }
    }

    /// Adds what the rule does to data, and the random seeds for it, to the decision.
    @inline(never)
    private func addEffects(_ index: Int, to decision: inout us_decision) {
        let own = unsafe rules[index].decision
        if own.corrupt.mode != 0 {
            decision.corrupt = own.corrupt
            decision.corrupt_range = unsafe rules[index].range?.address ?? 0
            decision.corrupt_seed =
                unsafe own.corrupt.sticky != 0 ? seed : streams[index].next()
        }
        decision.ignores_fua |= own.ignores_fua
        if own.store.keep != 0 {
            decision.store = own.store
            decision.store_seed = unsafe streams[index].next()
        }
    }

    /// Records in the ledger what the rule does to the IO, if anything (a `rate` may not have delayed it).
    @inline(never)
    private func record(
        _ index: Int,
        _ io: UnsafePointer<us_io>,
        _ moment: RuleMoment,
        delay: UInt64
    ) {
        var decision = unsafe rules[index].decision
        decision.delay_ns = delay
        guard unsafe us_decision_acts_on(&decision, io) || rules[index].isLogged else { return }
        var record = unsafe LedgerRecord(
            .decided,
            io.pointee,
            time: moment.time,
            rule: firstRule + Int32(index)
        )
        record.decision = decision
        if unsafe rules[index].chance != nil || rules[index].hasTiming {
            record.random = unsafe streams[index].state
        }
        ledger.append(record)
    }

    /// Removes the bytes of a write that succeeded from the ranges of the heal rules in the mask.
    func heal(_ mask: UInt64, _ io: us_io, now: Instant) {
        for index in 0..<count where unsafe rules[index].healBit & mask != 0 {
            guard let range = unsafe rules[index].range else { continue }
            range.remove(io.offset, io.length)
            ledger.append(
                LedgerRecord(
                    .healed,
                    io,
                    time: counters.deviceTime(now),
                    rule: firstRule + Int32(index)
                )
            )
        }
    }

    /// Translates a mask of heal rules after a reload: an IO that the old rules decided heals the ranges that heal
    /// rules of both scripts have.
    ///
    /// - Parameters:
    ///   - old: the rules that decided.
    ///   - mask: of those rules.
    /// - Returns: the mask of the heal rules in this set with the same ranges.
    func heals(of old: borrowing RuleSet, _ mask: UInt64) -> UInt64 {
        var result: UInt64 = 0
        for theirs in 0..<old.count where unsafe old.rules[theirs].healBit & mask != 0 {
            for ours in 0..<count where unsafe rules[ours].range == old.rules[theirs].range {
                unsafe result |= rules[ours].healBit
            }
        }
        return result
    }
}
