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
}
