import CLua

/// Noting the steps of requests that are no move from one state to another; those are ``RequestTable``'s.
///
/// Somebody who traces costs an IO the way through a plan, as that is where transfers are noted; nobody costs a look at
/// ``RequestTable/isTraced`` at each move.
extension Queue where Transport: ~Copyable {
    /// Notes steps in the ring from now on; nil: no more.
    mutating func trace(into ring: TraceRing?) {
        traceRing = ring
        let clock = transport.traceClock
        requests.note(into: ring.map { QueueTrace($0, control.ledger, clock) })
        isDirect = stores.count == 1 && ring == nil && !transport.copiesOnDemand
    }

    /// Notes steps from now on, and first what there is already.
    mutating func beginTrace(_ ring: TraceRing) {
        trace(into: ring)
        let depth = configuration.depth
        requests.trace?.note(.began, requests[Tag(0)]) { $0.amount = Int64(depth) }
        for index in 0..<depth { noteFound(Tag(UInt16(index))) }
    }

    private func noteFound(_ tag: Tag) {
        let wait: TraceEvent.Wait
        switch requests[tag].state {
        case .withDriver, .aborted: return
        case .serving, .transferring: wait = .forNothing
        case .paused: wait = .forResume
        case .delayed: wait = .forDelay
        case .held: wait = .forRelease
        case .asking: wait = .forData
        }
        requests.trace?.note(.found, requests[tag]) { $0.amount = wait.rawValue }
    }

    /// Notes what was decided about a request, before anything comes of it; once.
    @inline(never)
    func noteDecision(_ tag: Tag) {
        let request = requests[tag]
        guard request.waited == .forNothing else { return }
        let outcome = request.decision.outcome
        requests.trace?.note(.decided, request) { $0.detail = outcome }
    }

    @inline(never)
    func noteBegin(_ tag: Tag, transfer index: Int) { noteTransfer(.transferBegun, tag, index, 0) }

    /// - Parameter errno: 0: the transfer was carried out.
    @inline(never)
    func noteEnd(_ tag: Tag, transfer index: Int, errno: Int32) {
        let bytes = Int64(clamping: requests[transfer: tag, index].length)
        noteTransfer(.transferEnded, tag, index, errno == 0 ? bytes : -Int64(errno))
    }

    /// - Parameter errno: 0: all of the data was copied.
    @inline(never)
    func noteCopy(_ kind: TraceEvent.Kind, _ tag: Tag, errno: Int32) {
        let bytes = Int64(clamping: requests[tag].io.length)
        requests.trace?.note(kind, requests[tag]) { $0.amount = errno == 0 ? bytes : -Int64(errno) }
    }

    @inline(__always)
    private func noteTransfer(
        _ kind: TraceEvent.Kind,
        _ tag: Tag,
        _ index: Int,
        _ amount: Int64
    ) {
        let request = requests[tag]
        let transfer = requests[transfer: tag, index]
        let isQuestion = request.plan.isQuestion
        requests.trace?.note(kind, request) {
            $0.offset = transfer.offset
            $0.length = transfer.length
            $0.store = UInt16(truncatingIfNeeded: transfer.store)
            $0.transfer = UInt8(truncatingIfNeeded: index)
            $0.detail = isQuestion ? 1 : 0
            $0.amount = amount
        }
    }
}
