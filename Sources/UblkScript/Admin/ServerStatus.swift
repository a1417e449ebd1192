/// The status of a server, for `list`: whether faults are on, and counts of failures that no rule or handler decided.
///
/// Taken from counters and flags, so that the answer never waits for a queue. On the control socket each value is a
/// line: `faults on`, `remark TEXT`, `queue 0 5 2 1`, `script_errors 3`.
struct ServerStatus: Equatable {
    /// What a queue has to do.
    struct QueueLoad: Equatable {
        var queue: UInt16
        /// IOs that the server has, and those of them that wait.
        var inServer: UInt64
        var delayed: UInt64
        var held: UInt64

        fileprivate var line: String { "queue \(queue) \(inServer) \(delayed) \(held)" }

        init(queue: UInt16, inServer: UInt64 = 0, delayed: UInt64 = 0, held: UInt64 = 0) {
            (self.queue, self.inServer) = (queue, inServer)
            (self.delayed, self.held) = (delayed, held)
        }

        fileprivate init?(_ words: Substring) {
            let numbers = words.split(separator: " ").compactMap { UInt64($0) }
            guard numbers.count == 4, let queue = UInt16(exactly: numbers[0]) else { return nil }
            self.init(queue: queue, inServer: numbers[1], delayed: numbers[2], held: numbers[3])
        }
    }

    var faultsAreOn = true
    /// Why faults are off; "" when there is no reason to give.
    var remark = ""
    /// The counts of ``QueueCounters/Kind/failures`` that are above 0.
    var failures: [QueueCounters.Kind: UInt64] = [:]
    var queues: [QueueLoad] = []

    var lines: String {
        var lines = ["faults \(faultsAreOn ? "on" : "off")"]
        if !remark.isEmpty { lines.append("remark \(remark)") }
        for kind in QueueCounters.Kind.failures where failures[kind, default: 0] > 0 {
            lines.append("\(kind.name) \(failures[kind, default: 0])")
        }
        return (lines + queues.map(\.line)).joined(separator: "\n")
    }

    init(failures: [QueueCounters.Kind: UInt64] = [:]) { self.failures = failures }

    /// Parses the lines; unknown ones, of a server of another version, are ignored.
    init(lines: String) {
        for line in lines.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            guard words.count == 2 else { continue }
            switch words[0] {
            case "faults": faultsAreOn = words[1] == "on"
            case "remark": remark = String(words[1])
            case "queue": if let load = QueueLoad(words[1]) { queues.append(load) }
            default:
                let kind = QueueCounters.Kind.failures.first { $0.name == words[0] }
                if let kind, let count = UInt64(words[1]) { failures[kind] = count }
            }
        }
    }

    /// The failures as text such as `script errors 3, backing errors 2`; "" when there are none.
    var failureText: String {
        QueueCounters.Kind.failures.filter { failures[$0, default: 0] > 0 }
            .map { "\(Self.label($0)) \(failures[$0, default: 0])" }
            .joined(separator: ", ")
    }

    private static func label(_ kind: QueueCounters.Kind) -> String {
        switch kind {
        case .scriptErrors: "script errors"
        case .backingErrors: "backing errors"
        case .drained: "held IOs lost"
        case .copyErrors: "copy errors"
        default: "unknown operations"
        }
    }
}
