import CLua

/// Where a queue notes the steps of its requests while somebody traces.
///
/// A value without references, as it is used for each step; the queue keeps the ring.
struct QueueTrace {
    private let steps: TraceRing.Writer
    private let ledger: RecordRing<LedgerRecord>.Writer
    private let clock: TraceClock

    init(_ ring: TraceRing, _ ledger: Ledger, _ clock: TraceClock) {
        steps = ring.writer
        self.ledger = ledger.records.writer
        self.clock = clock
    }

    /// - Parameter change: says more of the step.
    @inline(__always)
    func note(
        _ kind: TraceEvent.Kind,
        _ request: RequestHandle,
        _ change: (inout TraceEvent) -> Void = { _ in }
    ) {
        var event = TraceEvent(
            kind,
            request.io,
            arrivedAt: request.arrivedAt.nanoseconds,
            time: clock.now.nanoseconds,
            ledger: ledger.total
        )
        change(&event)
        steps.append(event)
    }
}

/// The clock by which steps are noted.
///
/// The queue itself reads the clock once a turn, which is too rarely to tell the steps of one request apart.
@safe
enum TraceClock {
    // Safety: the instant is that of a simulated machine, which outlives its queues.
    case real
    case simulated(UnsafePointer<Instant>)

    @inline(__always)
    var now: Instant {
        switch self {
        case .real: Instant(nanoseconds: SystemCall.monotonicNanoseconds)
        case .simulated(let clock): unsafe clock.pointee
        }
    }
}

extension RequestTable {
    /// Notes what a move means for a request.
    @inline(never)
    func note(_ tag: Tag, from: Request.State, to: Request.State, result: Int32) {
        guard let trace else { return }
        let request = self[tag]
        switch to {
        case .serving:
            switch from {
            case .withDriver: trace.note(.arrived, request)
            case .paused, .delayed, .held: trace.note(.wentOn, request)
            case .serving, .asking, .transferring, .aborted: return
            }
        case .withDriver: trace.note(.committed, request) { $0.amount = Int64(result) }
        case .paused: trace.note(.paused, request)
        case .delayed:
            let nanoseconds = request.decision.delay_ns
            trace.note(.delayed, request) { $0.amount = Int64(clamping: nanoseconds) }
        case .held:
            let nanoseconds = request.decision.hang_ns
            trace.note(.held, request) { $0.amount = Int64(clamping: nanoseconds) }
        case .asking: trace.note(.asking, request)
        case .aborted: trace.note(.aborted, request)
        // Its transfers tell.
        case .transferring: return
        }
    }
}
