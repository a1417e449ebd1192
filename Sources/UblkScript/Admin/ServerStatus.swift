/// What a server says of itself when `list` asks: whether faults happen, and what failed although no rule and no
/// handler decided so.
///
/// From counters and flags alone, so that the answer never waits for a queue. On the socket it is a line for
/// each thing: `faults on`, `remark TEXT`, `script_errors 3`.
struct ServerStatus: Equatable {
    var faultsAreOn = true
    /// Why faults are off, or what else a person should know; empty: nothing.
    var remark = ""
    /// Those of ``QueueCounters/Kind/failures`` that are above 0.
    var failures: [QueueCounters.Kind: UInt64] = [:]

    var lines: String {
        var lines = ["faults \(faultsAreOn ? "on" : "off")"]
        if !remark.isEmpty { lines.append("remark \(remark)") }
        for kind in QueueCounters.Kind.failures where failures[kind, default: 0] > 0 {
            lines.append("\(kind.name) \(failures[kind, default: 0])")
        }
        return lines.joined(separator: "\n")
    }

    init(failures: [QueueCounters.Kind: UInt64] = [:]) { self.failures = failures }

    /// Lines of a server of another version may be unknown: they are left out.
    init(lines: String) {
        for line in lines.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            guard words.count == 2 else { continue }
            switch words[0] {
            case "faults": faultsAreOn = words[1] == "on"
            case "remark": remark = String(words[1])
            default:
                let kind = QueueCounters.Kind.failures.first { $0.name == words[0] }
                if let kind, let count = UInt64(words[1]) { failures[kind] = count }
            }
        }
    }

    /// `script errors 3, backing errors 2`; empty when nothing failed.
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
        default: "unknown operations"
        }
    }
}
