/// How far somebody has read a trace.
struct TraceCursor: Equatable, Sendable {
    /// Number of the trace.
    var trace: UInt64
    /// When the reader began, on the queues' clock.
    var origin: UInt64
    /// By queue: number of the next event, and of the next record of the ledger.
    var events: [UInt64]
    var records: [UInt64]
    /// Number of the next command for `/dev/ublk-control`.
    var commands = 0
}

/// The traces and ledgers of a device's queues, read as one list of steps.
///
/// An event says how many records its queue's ledger had, so each record has its place before the first event that
/// counts it. Belongs to whoever reads.
struct TraceReader {
    private let origin: UInt64
    private var events: RecordReader<TraceEvent>
    /// By queue: the number of the first record of the ledger that was not told yet.
    private var told: [UInt64]

    /// - Parameter cursor: nil: from the beginning of everything, on a clock that begins at 0.
    init(_ cursor: TraceCursor? = nil) {
        origin = cursor?.origin ?? 0
        events = RecordReader(from: cursor?.events ?? [])
        told = cursor?.records ?? []
    }

    func cursor(trace: UInt64) -> TraceCursor {
        TraceCursor(trace: trace, origin: origin, events: events.next, records: told)
    }

    /// The next steps.
    ///
    /// - Parameter limit: of events, over all queues.
    mutating func read(
        _ rings: [TraceRing],
        _ ledgers: [Ledger],
        _ text: LedgerText,
        limit: Int
    ) -> (steps: [TraceStep], hasMore: Bool) {
        while told.count < rings.count { told.append(0) }
        var next = events.next
        while next.count < rings.count { next.append(0) }
        let piece = events.read(rings, limit: limit)
        var lost = piece.lostByRing
        var steps: [TraceStep] = []
        for entry in piece.entries {
            let event = entry.record
            if lost[entry.index] > 0 {
                steps.append(self.lost(lost[entry.index], before: event, entry.queue))
                lost[entry.index] = 0
            }
            let before = steps.count
            // Between events that are lost, before the trace and after the last request there are records that nothing
            // here leads to.
            if entry.number != next[entry.index] || event.kind == .began || event.kind == .aborted {
                told[entry.index] = event.ledger
            }
            next[entry.index] = entry.number + 1
            steps += records(before: event, entry.index, entry.queue, ledgers[entry.index], text)
            let isTold =
                event.kind == .decided && steps[before...].contains { $0.step == .decision }
            if isTold { continue }
            let step = TraceStep(event, queue: entry.queue, origin: origin)
            if let last = steps.last, step.step == .abort, last.step == .abort,
                last.queue == step.queue
            {
                steps[steps.count - 1].tags = (last.tags ?? 0) + 1
                steps[steps.count - 1].tag = nil
            } else {
                steps.append(step)
            }
        }
        return (steps, piece.hasMore)
    }

    /// The steps that the ledger of its queue had before an event.
    private mutating func records(
        before event: TraceEvent,
        _ index: Int,
        _ queue: QueueID,
        _ ledger: Ledger,
        _ text: LedgerText
    ) -> [TraceStep] {
        guard event.ledger > told[index] else { return [] }
        let count = event.ledger - told[index]
        let found = ledger.read(from: told[index], limit: Int(count))
        // A ledger that keeps few records may only have some that belong to later events.
        told[index] = max(event.ledger, told[index] + found.lost)
        let kept = count - min(found.lost, count)
        var steps: [TraceStep] = []
        if found.lost > 0 {
            steps.append(lost(found.lost, before: event, queue, what: TraceStep.lostRecords))
        }
        return steps
            + found.records.prefix(Int(kept)).map { record in
                TraceStep(record, at: event, queue: queue, origin: origin, text)
            }
    }

    private func lost(
        _ count: UInt64,
        before event: TraceEvent,
        _ queue: QueueID,
        what: String? = nil
    ) -> TraceStep {
        var step = TraceStep(t: event.time - min(origin, event.time), step: .lost, count: count)
        (step.queue, step.what) = (queue.rawValue, what)
        return step
    }
}
