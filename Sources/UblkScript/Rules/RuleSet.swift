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
    private let streams: UnsafeMutablePointer<SplitMix64>
    /// What `correlation` repeats: a delay a rule.
    private let lastDelays: UnsafeMutablePointer<UInt64>
    /// Of the rules with `service`.
    private let servers: UnsafeMutablePointer<RuleService.Server>
    private var deviceBytes: UInt64 = 0
    /// When each 4 KiB was written; nil: no rule asks.
    private var writeTimes: HistoryTable<UInt64>?
    let count: Int
    let counters: RuleCounters
    private let ledger: Ledger
    private let seed: UInt64
    /// What the ledger adds to a rule's number.
    private let firstRule: Int32
    /// What the ledger calls the handlers of these rules' script.
    var handlerNumber: Int32 { firstRule - 1 }
    private var index: RuleIndex
    /// Some rule looks at how much the device has been asked for so far.
    let needsTotals: Bool
    /// Whose data these rules look at or change.
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
        self.ledger = ledger
        self.seed = seed
        unsafe rules = .allocate(capacity: max(1, count))
        unsafe streams = .allocate(capacity: max(1, count))
        unsafe lastDelays = .allocate(capacity: max(1, count))
        unsafe lastDelays.initialize(repeating: .max, count: max(1, count))
        var healBit: UInt64 = 1
        for (index, rule) in list.enumerated() {
            unsafe (rules + index).initialize(to: rule)
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

    deinit {
        unsafe rules.deallocate()
        unsafe streams.deallocate()
        unsafe lastDelays.deallocate()
        unsafe servers.deallocate()
    }

    /// Tells the rules how large the device is, before the first IO.
    ///
    /// - Parameters:
    ///   - bank: of the script's nameless objects, see ``SharedObjects``.
    ///   - deviceBytes: the device's size.
    /// - Returns: false when there is no memory for what they want to know of each of its 4 KiB.
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

    /// Adds what the matching rules say to `decision`.
    ///
    /// - Parameters:
    ///   - op: the IO's.
    ///   - inFlight: IOs that are with the queue, this one included.
    ///   - segments: room for US_SEGMENTS_MAX.
    ///   - heals: gets a bit for each heal rule that matched, for ``heal(_:offset:length:)``.
    ///   - data: what a write brings.
    /// - Returns: true when a rule settled the outcome, so that the script's handler is not asked.
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
        if needsTotals { (moment.ops, moment.bytes) = counters.countArriving(bytes: length) }
        let (sum, overflow) = offset.addingReportingOverflow(length)
        let end = overflow ? UInt64.max : sum
        let candidates = unsafe index.candidates(rules, op: op, offset: offset, end: end)
        let hullEnd = max(end, 1)  // a flush has no place and hits what has none
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
            unsafe leaveTraces(rule, offset: offset, length: length, time: moment.time)
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

    /// How much longer the rule's stall goes on for an IO that fits; 0: there is none.
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

    /// The delay of a rule whose delay is not one fixed time.
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

    /// Conditions, counting and chance, once op and range fit.
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

    /// What is written is young for the next IO.
    @inline(never)
    private func noteWrite(_ io: UnsafePointer<us_io>, _ op: IOOp, _ time: UInt64) {
        guard op != .read, op != .flush else { return }
        unsafe writeTimes?.write(
            offset: io.pointee.offset,
            length: io.pointee.length,
            time: time
        )
    }

    /// What a rule that acts does besides deciding: its mark, its state, its range.
    @inline(__always)
    private func leaveTraces(
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

    /// The decision gets what the rule does to data, and its chance.
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

    /// Writes down what the rule does to the IO; a rate that did not delay it, say, did nothing.
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

    /// Takes the bytes of a write that succeeded out of the ranges of the heal rules in the mask.
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

    /// The mask of those of our heal rules that have the ranges of `old`'s in that mask: what an IO heals that was
    /// decided by rules which others have taken the place of.
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
