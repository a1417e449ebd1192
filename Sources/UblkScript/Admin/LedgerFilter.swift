/// A filter for records of the ledger: a record must match every key that is given, and one of the values of each.
struct LedgerFilter: Sendable {
    /// Names or lines of rules, or handlers such as `read()`.
    private var rules: [String] = []
    private var ops: [IOOp] = []
    private var actions: [String] = []
    private var ranges: [(offset: UInt64, end: UInt64)] = []
    /// The first and the last time, nanoseconds on the device's clock.
    var from: UInt64 = 0
    private var until = UInt64.max

    static let keys = ["rule", "op", "action", "range", "from", "until"]

    /// Parses words such as `op=read`.
    init(_ words: some Sequence<String>) throws(ConfigError) {
        for word in words {
            let key = String(word.prefix { $0 != "=" })
            let value = String(word.dropFirst(key.count + 1))
            func refuse(_ expected: String) -> ConfigError {
                ConfigError(
                    origin: "--\(key)",
                    text: "\"\(value)\" is none: \(expected) is expected"
                )
            }
            switch key {
            case "rule":
                guard !value.isEmpty else { throw refuse("a rule's name or line, or read()") }
                rules.append(value)
            case "op":
                guard let op = IOOp(name: value) else {
                    throw refuse("one of " + IOOp.allCases.map(\.name).joined(separator: ", "))
                }
                ops.append(op)
            case "action":
                guard LedgerRecord.actions.contains(value) else {
                    throw refuse("one of " + LedgerRecord.actions.joined(separator: ", "))
                }
                actions.append(value)
            case "range":
                guard let range = Self.range(value) else {
                    throw refuse("OFFSET+LENGTH, as in 8M+4K,")
                }
                ranges.append(range)
            case "from", "until":
                guard let time = Quantity.nanoseconds(value) else {
                    throw refuse("a time on the device's clock, as in 12.5s,")
                }
                if key == "from" { from = time } else { until = time }
            default: throw refuse("one of " + Self.keys.joined(separator: ", "))
            }
            // Checked here, before a mark may move `from`: an empty result is no contradiction then.
            if from > until { throw refuse("a time that leaves --from before --until") }
        }
    }

    private static func range(_ text: String) -> (offset: UInt64, end: UInt64)? {
        let parts = text.split(separator: "+", omittingEmptySubsequences: false)
        guard parts.count == 2, let offset = Quantity.bytes(String(parts[0])),
            let length = Quantity.bytes(String(parts[1])), length > 0
        else { return nil }
        let (end, overflow) = offset.addingReportingOverflow(length)
        return (offset, overflow ? .max : end)
    }

    /// The first name in the filter that no rule has or had; nil when there is none.
    func unknownRule(among labels: [RuleLabel]) -> String? {
        let handlers = IOOp.allCases.map { $0.name + "()" }
        return rules.first { name in
            !handlers.contains(name) && !labels.contains { $0.number != 0 && $0.answers(to: name) }
        }
    }

    func admits(_ record: LedgerRecord, rules labels: [RuleLabel]) -> Bool {
        guard from <= record.time, record.time <= until else { return false }
        if !ops.isEmpty, !ops.contains(where: { $0.rawValue == record.op }) { return false }
        if !actions.isEmpty, !actions.contains(where: record.has) { return false }
        if !ranges.isEmpty {
            let end = record.offset.addingReportingOverflow(record.length)
            let last = end.overflow ? UInt64.max : end.partialValue
            guard ranges.contains(where: { $0.offset < last && record.offset < $0.end }) else {
                return false
            }
        }
        return rules.isEmpty || rules.contains { isOf(record, $0, labels) }
    }

    private func isOf(_ record: LedgerRecord, _ name: String, _ labels: [RuleLabel]) -> Bool {
        let index = Int(record.rule)
        if labels.indices.contains(index), labels[index].number != 0 {
            return labels[index].answers(to: name)
        }
        guard record.rule != LedgerRecord.nobody else { return false }
        return name == (IOOp(rawValue: record.op)?.name ?? "") + "()"
    }
}
