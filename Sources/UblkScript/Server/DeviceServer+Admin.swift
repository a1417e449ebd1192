import Synchronization

/// What the loop and those who ask look at.
///
/// The main thread.
extension DeviceServer {
    /// A handler raised, and the script's `on_error` is `"stop"`.
    var isStopWanted: Bool {
        seats.contains { $0.control.wantsStop.load(ordering: .relaxed) }
    }

    /// The counters, summed over the queues, and what each rule did.
    func statistics() -> String {
        var lines = QueueCounters.Kind.allCases.map { kind in
            "\(kind.name) \(seats.reduce(0) { $0 + $1.control.counters[kind] })"
        }
        for (index, rule) in plan.rules.enumerated() {
            let name = rule.name.isEmpty ? "" : " \(rule.name)"
            let off = ruleCounters.isOn(index) ? "" : " off"
            lines.append(
                "rule \(request.source.name):\(rule.line)\(name) acted \(ruleCounters.acted(index))\(off)"
            )
        }
        return lines.joined(separator: "\n")
    }

    var readableLines: Int32 { lines.readFD }
    func takeLines() -> [String] { lines.takeLines() }
    var state: StateDirectory { request.state }
    var scriptName: String { request.source.name }
    var rules: [RuleLabel] { plan.rules }
    var seed: UInt64 { plan.seed }
}
