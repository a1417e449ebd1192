/// The counters and times of a device so far, summed over its queues.
///
/// A value that the server makes and `stats` prints.
struct DeviceStatistics: Codable, Equatable, Sendable {
    /// The IOs of one operation.
    struct Operation: Codable, Equatable, Sendable {
        let operation: String
        /// Number of IOs that arrived.
        let count: UInt64
        /// Bytes that the successful IOs moved.
        let bytes: UInt64
        /// Total time that the server had the IOs that ended.
        let nanoseconds: UInt64
        let medianNanoseconds: UInt64
        let p99Nanoseconds: UInt64
        let maxNanoseconds: UInt64
        /// Cumulative counts of the IOs that ended within a time.
        let latency: [Bucket]
        /// Number of IOs that ended.
        let ended: UInt64
    }

    struct Bucket: Codable, Equatable, Sendable {
        let leNanoseconds: UInt64
        let count: UInt64
    }

    let id: UInt32
    let path: String
    let script: String
    let seed: UInt64
    let operations: [Operation]
    /// Counts of what was done to IOs, by name; `delayed_now` and `held_now` are gauges.
    let counters: [String: UInt64]
    let rules: [RuleReport]
}

extension DeviceStatistics.Operation {
    /// Powers of four from about a microsecond to about a minute.
    static let bounds: [UInt64] = stride(from: 10, through: 36, by: 2).map { 1 << $0 }

    init(_ name: String, count: UInt64, _ sum: IOTimes.Sum) {
        operation = name
        self.count = count
        bytes = sum.bytes
        nanoseconds = sum.nanoseconds
        func time(_ share: Double) -> UInt64 {
            LatencySteps.nanoseconds(share: share, of: sum.counts, max: sum.maxNanoseconds)
        }
        medianNanoseconds = time(0.5)
        p99Nanoseconds = time(0.99)
        maxNanoseconds = sum.maxNanoseconds
        // A bound begins a step, so a bucket ends just below it.
        latency = Self.bounds.map { bound in
            .init(
                leNanoseconds: bound,
                count: sum.counts[..<LatencySteps.step(bound)].reduce(0, +)
            )
        }
        ended = sum.counts.reduce(0, +)
    }
}

extension DeviceStatistics {
    /// The operations of several queues, summed.
    ///
    /// - Parameter queues: counters and times of each.
    static func operations(_ queues: [(QueueCounters, IOTimes)]) -> [Operation] {
        (0..<IOTimes.operations).compactMap { index in
            guard let kind = QueueCounters.Kind(rawValue: index) else { return nil }
            return Operation(
                kind.name,
                count: queues.reduce(0) { $0 + $1.0[kind] },
                queues.reduce(IOTimes.Sum()) { $0 + $1.1[index] }
            )
        }
    }

    /// The counters of several queues, summed, without the operations.
    static func counters(_ queues: [QueueCounters]) -> [String: UInt64] {
        var counters: [String: UInt64] = [:]
        for (name, value) in QueueCounters.named() {
            counters[name] = queues.reduce(0) { $0 + value($1) }
        }
        return counters
    }
}
