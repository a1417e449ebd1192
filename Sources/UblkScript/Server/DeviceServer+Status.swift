import Synchronization

/// How a server and its device are.
///
/// The main thread.
extension DeviceServer {
    /// The main thread.
    var status: ServerStatus {
        var status = ServerStatus()
        status.faultsAreOn = seats.allSatisfy { $0.control.armed.load(ordering: .relaxed) }
        status.remark = statusRemark
        for kind in QueueCounters.Kind.failures {
            let count = seats.reduce(0) { $0 + $1.control.counters[kind] }
            if count > 0 { status.failures[kind] = count }
        }
        return status
    }

    /// One sentence for whoever takes the device away; nil when nothing failed unasked.
    static func summary(_ status: ServerStatus, of id: DeviceID) -> String? {
        let text = status.failureText
        guard !text.isEmpty else { return nil }
        return "device \(id): no rule and no handler decided these: \(text)"
    }
}
