import Synchronization

/// `status`: the answer for `list`.
///
/// Main thread.
extension DeviceServer {
    var status: ServerStatus {
        var status = ServerStatus()
        status.faultsAreOn = contexts.allSatisfy { $0.control.armed.load(ordering: .relaxed) }
        status.remark = statusRemark
        for kind in QueueCounters.Kind.failures {
            let count = contexts.reduce(0) { $0 + $1.control.counters[kind] }
            if count > 0 { status.failures[kind] = count }
        }
        status.queues = contexts.map { context in
            ServerStatus.QueueLoad(
                queue: context.queue.rawValue,
                inServer: Self.inServer(context.control),
                delayed: context.control.counters[.delayedNow],
                held: context.control.counters[.heldNow]
            )
        }
        return status
    }

    /// Number of the IOs that a queue has not answered.
    static func inServer(_ queue: QueueControl) -> UInt64 {
        DeviceStatistics.operations([(queue.counters, queue.times)])
            .reduce(0) { $0 + $1.count - min($1.count, $1.ended) }
    }

    /// A sentence about failures that no rule or handler decided, for `del` and `stop`; nil when there were none.
    static func summary(_ status: ServerStatus, of id: DeviceID) -> String? {
        let text = status.failureText
        guard !text.isEmpty else { return nil }
        return "device \(id): no rule and no handler decided these: \(text)"
    }
}
