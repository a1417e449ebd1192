/// What a device has done so far, over all its queues.
///
/// A value that the server makes and `stats` prints.
struct DeviceStatistics: Codable, Equatable, Sendable {
    /// IOs of one kind.
    struct Operation: Codable, Equatable, Sendable {
        let operation: String
        /// That arrived.
        let count: UInt64
        /// That those which succeeded moved.
        let bytes: UInt64
        /// Of those that ended: how long the server had them, together.
        let nanoseconds: UInt64
        let medianNanoseconds: UInt64
        let p99Nanoseconds: UInt64
        let maxNanoseconds: UInt64
        /// How many ended within a time, each with those of the shorter times.
        let latency: [Bucket]
        /// How many ended.
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
    /// What was done to IOs, by name; `delayed_now` and `held_now` are of this moment.
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
    /// The numbers of several queues added up.
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

    /// What is no operation.
    static func counters(_ queues: [QueueCounters]) -> [String: UInt64] {
        var counters: [String: UInt64] = [:]
        for (name, value) in QueueCounters.named() {
            counters[name] = queues.reduce(0) { $0 + value($1) }
        }
        return counters
    }
}
