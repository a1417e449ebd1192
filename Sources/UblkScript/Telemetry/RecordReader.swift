/// A record that says when it was written.
protocol TimedRecord: BitwiseCopyable {
    /// Nanoseconds, on one clock for all queues of a device.
    var time: UInt64 { get }
}

/// The rings of a device's queues read as one, in the order of time, piece by piece.
///
/// Belongs to whoever reads; queues go on writing meanwhile. A piece ends where a queue has records that were not
/// looked at yet, so that what follows in the next piece is not older than what was in this one.
struct RecordReader<Record: TimedRecord> {
    struct Entry {
        /// Place of the ring among those that are read.
        let index: Int
        let queue: QueueID
        /// The queue's count of records.
        let number: UInt64
        let record: Record
    }

    struct Piece {
        var entries: [Entry] = []
        /// By place of the ring: records that were overwritten before they were read, all of them older than the first
        /// entry of that ring, which there is.
        var lostByRing: [UInt64] = []
        var lost: UInt64 { lostByRing.reduce(0, +) }
        /// There are more already.
        var hasMore = false
    }

    /// Number of the next record to read, for each queue.
    private(set) var next: [UInt64]

    /// - Parameter next: nothing: from the oldest records on.
    init(from next: [UInt64] = []) { self.next = next }

    /// - Parameter limit: of records, over all queues.
    mutating func read(_ rings: [RecordRing<Record>], limit: Int) -> Piece {
        while next.count < rings.count { next.append(0) }
        let each = max(1, limit / max(1, rings.count))
        let parts = rings.indices.map { rings[$0].read(from: next[$0], limit: each) }
        var end = UInt64.max
        for (index, part) in parts.enumerated() where part.next < rings[index].total {
            // Of a ring that was empty when it was looked at, and is not any more, the first record counts.
            let bound =
                part.records.last ?? rings[index].read(from: part.next, limit: 1).records.first
            if let bound { end = min(end, bound.time) }
        }
        var piece = Piece()
        for (index, part) in parts.enumerated() {
            let kept = part.records.prefix { $0.time <= end }
            // What is lost is told with what comes after it: else the next piece counts it anew.
            let tells = part.lost == 0 || !kept.isEmpty
            if tells { next[index] = part.next - UInt64(part.records.count - kept.count) }
            piece.lostByRing.append(tells ? part.lost : 0)
            piece.hasMore = piece.hasMore || next[index] < rings[index].total
            let first = next[index] - UInt64(kept.count)
            piece.entries += kept.enumerated().map {
                Entry(
                    index: index,
                    queue: rings[index].queue,
                    number: first + UInt64($0),
                    record: $1
                )
            }
        }
        piece.entries.sort {
            ($0.record.time, $0.queue.rawValue, $0.number)
                < ($1.record.time, $1.queue.rawValue, $1.number)
        }
        return piece
    }
}

/// The ledgers of a device's queues read as one.
typealias LedgerReader = RecordReader<LedgerRecord>

extension LedgerReader {
    mutating func read(_ ledgers: [Ledger], limit: Int) -> Piece {
        read(ledgers.map(\.records), limit: limit)
    }
}
