import CLua
import SystemPackage

/// Makes the plan of one IO from what was decided about it.
///
/// Off the usual path: an IO that goes to its own offset of the only store needs none of this (`Queue+Plan.swift`).
/// Reads the tag's rooms and fills the list of its transfers; what has to happen to the data before is left to the
/// queue. Lives for one call on the queue's thread.
@safe
struct Planner: ~Copyable {
    // Safety: `segments` has as many as the decision says, `transfers` room for ``IOPlan/transfersMax``; both the
    // tag's.
    private let op: IOOp
    private let io: us_io
    private var decision: us_decision
    private let segments: UnsafePointer<us_segment>
    private let transfers: UnsafeMutablePointer<Transfer>
    private let deviceBytes: UInt64

    private(set) var plan = IOPlan()
    /// The data is all zeroes before the first transfer begins: zeroes are stored, or nothing else says what is read.
    private(set) var clearsData = false
    /// A part of the write is not stored.
    private(set) var isTorn = false
    /// A base past the end of a store of so many bytes.
    private(set) var misfitBytes: UInt64?

    /// - Parameter decision: what is to happen now: its delay and its hang are over.
    init(
        op: IOOp,
        io: us_io,
        decision: us_decision,
        segments: UnsafePointer<us_segment>,
        transfers: UnsafeMutablePointer<Transfer>,
        deviceBytes: UInt64
    ) {
        self.op = op
        self.io = io
        self.decision = decision
        unsafe self.segments = unsafe segments
        unsafe self.transfers = unsafe transfers
        self.deviceBytes = deviceBytes
    }

    mutating func make(_ stores: borrowing StoreTable) {
        switch unsafe us_outcome_at(UInt32(decision.outcome))?.pointee.media {
        case US_MEDIA_AS_ASKED: store(stores)
        case US_MEDIA_ZEROES:
            clearsData = true
            if op != .read { store(stores) }
        case US_MEDIA_KEPT:
            plan.errno = decision.error
            if storesByKeep { store(stores) }
        case US_MEDIA_UNTOUCHED: plan.healed = .nothing
        case US_MEDIA_DONE: _ = keptBytes()
        default: preconditionFailure("an outcome without a plan")
        }
        plan.isOrdered = plan.count > 1 && hasOverlaps(stores)
        if op == .read, clearsData, !plan.isOrdered, transferredBytes == io.length {
            clearsData = false
        }
    }

    private var transferredBytes: UInt64 {
        var bytes: UInt64 = 0
        for index in 0..<Int(plan.count) { unsafe bytes += transfers[index].length }
        return bytes
    }

    /// It is a write of which the decision says what is stored.
    private var storesByKeep: Bool {
        op == .write && decision.store.keep != 0
    }

    private mutating func store(_ stores: borrowing StoreTable) {
        if op == .flush {
            // The device's own store may be one that it declares, too.
            for number in 0..<stores.count where !isSecond(number, stores) {
                append(UInt32(number), base: 0, 0, 0)
            }
            return
        }
        if storesByKeep, decision.store.keep == UInt8(US_STORE_RANDOM.rawValue), canBeSegmented {
            return storeSegments()
        }
        let (from, to) = keptBytes()
        guard isRedirected else {
            return append(0, base: io.offset, from, to)
        }
        guard decision.segment_count != 0 else {
            let base = decision.redirected(io.offset, io.length, deviceBytes: deviceBytes)
            return appendFitting(decision.to_backing, base: base, from, to, stores)
        }
        if op == .read { clearsData = true }
        for index in 0..<Int(decision.segment_count) {
            let segment = unsafe segments[index]
            let end = unsafe us_segment_end(segments + index, io.length)
            appendFitting(
                segment.backing,
                base: segment.offset &- segment.at,
                max(from, segment.at),
                min(to, end),
                stores
            )
        }
    }

    /// A store of a lower number is the same.
    private func isSecond(_ number: Int, _ stores: borrowing StoreTable) -> Bool {
        for earlier in 0..<number where stores[earlier].isSame(as: stores[number]) { return true }
        return false
    }

    /// The bytes of the IO that are stored in one stretch: all, but of a write that is torn.
    private mutating func keptBytes() -> (from: UInt64, to: UInt64) {
        guard storesByKeep else { return (0, io.length) }
        var write = TornWrite(decision, length: io.length)
        plan.healed = .run
        plan.run = write.run()
        isTorn = UInt64(plan.run.count) < io.length
        return (plan.run.lowerBound, plan.run.upperBound)
    }

    private var isRedirected: Bool { decision.outcome == UInt8(US_OUTCOME_REDIRECT.rawValue) }

    /// A write that goes elsewhere, or stores zeroes, keeps a prefix instead.
    private var canBeSegmented: Bool { !isRedirected && !clearsData }

    /// A write of which only some units are stored.
    private mutating func storeSegments() {
        plan.healed = .transfers
        var write = TornWrite(decision, length: io.length)
        var stored: UInt64 = 0
        write.forEachSegment { segment in
            stored += UInt64(segment.count)
            append(0, base: io.offset, segment.lowerBound, segment.upperBound)
        }
        isTorn = stored != io.length
    }

    /// A rule's base is not looked at before: it does not know which IOs come.
    private mutating func appendFitting(
        _ store: UInt32,
        base: UInt64,
        _ from: UInt64,
        _ to: UInt64,
        _ stores: borrowing StoreTable
    ) {
        // Of a write that is stored in part nothing may be left for this segment.
        guard from < to else { return }
        let bytes = stores[Int(store)].sizeBytes ?? deviceBytes
        let length = to - from
        guard us_fits(base &+ from, length, bytes) else {
            if misfitBytes == nil { misfitBytes = bytes }
            return
        }
        append(store, base: base, from, to)
    }

    /// - Parameter base: where the IO's first byte would be in the store; modulo 2^64.
    private mutating func append(_ store: UInt32, base: UInt64, _ from: UInt64, _ to: UInt64) {
        guard from < to || op == .flush else { return }
        precondition(plan.count < IOPlan.transfersMax)
        var transfer = Transfer(op, io, store: store, base: base, from: from, to: to)
        if decision.ignores_fua != 0 { transfer.isDurable = false }
        unsafe transfers[Int(plan.count)] = transfer
        plan.count += 1
    }

    /// Some byte of the data, or of a store, is in two transfers: then the later one is to win.
    private func hasOverlaps(_ stores: borrowing StoreTable) -> Bool {
        for later in 1..<Int(plan.count) {
            for earlier in 0..<later {
                let a = unsafe transfers[earlier]
                let b = unsafe transfers[later]
                if a.op == .read {
                    if a.at < b.at + b.length, b.at < a.at + a.length { return true }
                } else if a.offset < b.offset + b.length, b.offset < a.offset + a.length,
                    stores[Int(a.store)].isSame(as: stores[Int(b.store)])
                {
                    return true
                }
            }
        }
        return false
    }
}

extension Transfer {
    /// Bytes of an IO that go to a store, or come from it.
    ///
    /// - Parameter base: where the IO's first byte would be in the store; modulo 2^64.
    @inline(__always)
    init(_ op: IOOp, _ io: us_io, store: UInt32, base: UInt64, from: UInt64, to: UInt64) {
        self.init(op, store: store, at: from, length: to - from, offset: base &+ from)
        isDurable = io.flags & IOFlags.fua.rawValue != 0
        keepsBlocks = io.flags & IOFlags.noUnmap.rawValue != 0
    }
}
