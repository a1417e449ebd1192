import CLua

/// What a decision does to a request's data: a write's before the backing gets it, a read's before the
/// driver does.
///
/// Off the usual path: a request without effects costs one look.
extension Queue where Transport: ~Copyable {
    @inline(__always)
    func hasEffects(_ request: UnsafeMutablePointer<Request>) -> Bool {
        let decision = unsafe request.pointee.decision
        return decision.corrupt.mode | decision.store.keep != 0
    }

    /// Before the outcome.
    ///
    /// - Returns: true when the request has gone its way already.
    @inline(never)
    mutating func startEffects(_ tag: Tag) -> Bool {
        let request = unsafe requests[tag]
        unsafe request.pointee.hasEffects = true
        guard unsafe request.pointee.io.op == IOOp.write.rawValue else { return false }
        var decision = unsafe request.pointee.decision
        corrupt(tag)
        guard decision.store.keep != 0, decision.outcome != UInt8(US_OUTCOME_DROP.rawValue) else {
            return false
        }
        if decision.store.keep == UInt8(US_STORE_RANDOM.rawValue), canStorePieces(decision) {
            storePieces(tag, &decision)
            return true
        }
        let length = unsafe request.pointee.io.length
        unsafe us_stored_part(
            &decision,
            length,
            &request.pointee.partFrom,
            &request.pointee.partTo
        )
        let stored = unsafe request.pointee.partTo - request.pointee.partFrom
        if stored < length { control.counters.add(.torn) }
        if decision.outcome == UInt8(US_OUTCOME_FAIL.rawValue) {
            guard stored > 0 else { return false }
            control.counters.add(.failed)
            unsafe request.pointee.failsWith = decision.error
            perform(tag)
            return true
        }
        guard stored == 0 else { return false }
        complete(tag, Int32(clamping: length))
        return true
    }

    /// One that goes elsewhere, or stores zeroes, keeps a prefix instead.
    private func canStorePieces(_ decision: us_decision) -> Bool {
        let outcome = UInt32(decision.outcome)
        return outcome == US_OUTCOME_PASS.rawValue || outcome == US_OUTCOME_FAIL.rawValue
    }

    /// A write of which only some units arrive is one to its own place, in pieces.
    private mutating func storePieces(_ tag: Tag, _ decision: inout us_decision) {
        let request = unsafe requests[tag]
        let io = unsafe request.pointee.io
        let legs = unsafe requests.legs(tag)
        let count = unsafe us_stored_pieces(&decision, io.offset, io.length, legs)
        let isWhole = unsafe count == 1 && legs[0].length == io.length
        if !isWhole { control.counters.add(.torn) }
        if decision.outcome == UInt8(US_OUTCOME_FAIL.rawValue) {
            control.counters.add(.failed)
            unsafe request.pointee.failsWith = decision.error
        }
        guard count != 0 else {
            unsafe request.pointee.partTo = request.pointee.partFrom
            return complete(tag, Int32(clamping: io.length))
        }
        unsafe request.pointee.isInPieces = true
        unsafe request.pointee.decision.outcome = UInt8(US_OUTCOME_REDIRECT.rawValue)
        unsafe request.pointee.decision.is_relative = 0
        unsafe request.pointee.decision.leg_count = UInt8(count)
        perform(tag)
    }

    /// Changes the request's data, if that was decided.
    private func corrupt(_ tag: Tag) {
        let request = unsafe requests[tag]
        guard unsafe request.pointee.decision.corrupt.mode != 0 else { return }
        control.counters.add(.corrupted)
        unsafe us_corrupt(
            &request.pointee.decision,
            requests.patches(tag),
            request.pointee.io.offset,
            transport.buffer(tag),
            request.pointee.io.length
        )
    }

    /// Before the commit.
    ///
    /// - Returns: what the driver is told.
    @inline(never)
    mutating func endEffects(_ tag: Tag, _ result: Int32) -> Int32 {
        let request = unsafe requests[tag]
        guard result >= 0 else { return result }
        if unsafe request.pointee.failsWith != 0 { return unsafe -request.pointee.failsWith }
        if unsafe request.pointee.io.op == IOOp.read.rawValue { corrupt(tag) }
        return result
    }

    /// What was stored of the IO is healed.
    @inline(never)
    func heal(_ tag: Tag) {
        let request = unsafe requests[tag]
        guard unsafe request.pointee.isInPieces else {
            return unsafe heal(tag, request.pointee.partFrom, request.pointee.partTo)
        }
        for place in 0..<Int(unsafe request.pointee.decision.leg_count) {
            let leg = unsafe requests.legs(tag)[place]
            heal(tag, leg.at, leg.at + leg.length)
        }
    }

    private func heal(_ tag: Tag, _ from: UInt64, _ to: UInt64) {
        guard from != to else { return }
        let request = unsafe requests[tag]
        var io = unsafe request.pointee.io
        io.offset += from
        io.length = to - from
        unsafe rules.heal(request.pointee.heals, io, now: transport.now)
    }
}
