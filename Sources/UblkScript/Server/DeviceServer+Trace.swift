/// The trace that somebody follows: `ublk-script trace`.
struct RunningTrace {
    /// A number of its own, which no other server of the device has given either.
    let number = UInt64.random(in: 0..<UInt64.max)
    /// Of the queues.
    let rings: [TraceRing]
    let ledgers: [Ledger]
    /// Until then somebody has to read.
    var limit: TimeLimit
}

/// `ublk-script trace`: switched on by the first who reads, off when nobody has for a while.
///
/// Main thread. A queue is told by a message, and looks at nothing that others write.
extension DeviceServer {
    /// Number of steps that a queue keeps while it is traced, 72 bytes each.
    private static let traceCapacity = 1 << 14
    /// The most events in one answer, over all queues.
    private static let traceMax = 2000
    /// For so long a trace goes on that nobody reads.
    private static let traceSeconds = 3.0

    func trace(_ request: TraceRequest) -> AdminAnswer {
        var running = runningTrace ?? newTrace()
        running.limit = TimeLimit(seconds: Self.traceSeconds)
        runningTrace = running
        var steps: [TraceStep] = []
        var cursor = TraceCursor(
            trace: running.number,
            origin: request.cursor?.origin ?? clock.now(),
            events: running.rings.map(\.total),
            records: running.ledgers.map(\.total)
        )
        if let known = request.cursor, known.trace == running.number,
            known.events.count == running.rings.count
        {
            cursor = known
        } else {
            if let known = request.cursor {
                let now = clock.now()
                steps.append(TraceStep(t: now - min(known.origin, now), step: .gap))
            }
            // The queues begin with what there is, for each reader anew.
            for (context, ring) in zip(contexts, running.rings) {
                context.control.send(.trace(ring))
            }
        }
        var reader = TraceReader(cursor)
        let piece = reader.read(
            running.rings,
            running.ledgers,
            ledgerText(isJSON: false),
            limit: Self.traceMax
        )
        let commands = lifecycle.commands.entries(from: request.cursor?.commands ?? 0)
        let given = commands.entries.compactMap { TraceStep($0, origin: cursor.origin) }
        var next = reader.cursor(trace: running.number)
        next.commands = commands.next
        return .trace(
            TracePage(
                cursor: next.words,
                steps: TraceStep.merged(given, steps + piece.steps),
                hasMore: piece.hasMore
            )
        )
    }

    private func newTrace() -> RunningTrace {
        RunningTrace(
            rings: contexts.map { TraceRing(queue: $0.queue, capacity: Self.traceCapacity) },
            ledgers: contexts.map(\.control.ledger),
            limit: TimeLimit(seconds: Self.traceSeconds)
        )
    }

    /// Ends a trace that nobody reads any more; call several times a second.
    func endUnreadTrace() {
        guard runningTrace?.limit.isOver() == true else { return }
        runningTrace = nil
        for context in contexts { context.control.send(.trace(nil)) }
    }
}
