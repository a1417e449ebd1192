import CLua
import SystemPackage

/// Formats records of a ledger as lines of text, or as JSON.
///
///     12.500123456  q0 io 17  read 8388608+4096  faulty.lua:5 bad: fail("ENODATA")
///     {"t":12500123456,"queue":0,"io":17,"op":"read","offset":8388608,"length":4096,...}
struct LedgerText {
    let script: String
    let rules: [RuleLabel]
    let seed: UInt64
    var isJSON = false

    func line(_ record: LedgerRecord, queue: QueueID) -> String {
        isJSON ? json(record, queue) : text(record, queue)
    }

    // MARK: Text

    private func text(_ record: LedgerRecord, _ queue: QueueID) -> String {
        let seconds = record.time / 1_000_000_000
        let digits = String(record.time % 1_000_000_000)
        let fraction = String(repeating: "0", count: 9 - digits.count) + digits
        let flags = flagNames(record).map { " " + $0 }.joined()
        return "\(seconds).\(fraction)  q\(queue.rawValue) io \(record.sequence)  "
            + "\(opName(record)) \(record.offset)+\(record.length)\(flags)  \(who(record)): \(action(record))"
    }

    /// Whose record it is.
    func who(_ record: LedgerRecord) -> String {
        if isHandler(record) { return "\(scriptName(record)) \(opName(record))()" }
        if record.rule == LedgerRecord.nobody { return record.kind == .released ? "ctl" : "server" }
        return "\(scriptName(record)):\(label(record)?.line ?? 0)"
            + (label(record).map { $0.name.isEmpty ? "" : " \($0.name)" } ?? "")
    }

    /// True when a handler decided: the first script's handlers have no label, those of later scripts number 0.
    private func isHandler(_ record: LedgerRecord) -> Bool {
        record.rule == LedgerRecord.handler || label(record)?.number == 0
    }

    private func scriptName(_ record: LedgerRecord) -> String { label(record)?.script ?? script }

    /// What was done.
    func action(_ record: LedgerRecord) -> String {
        switch record.kind {
        case .decided: verdict(record) ?? "acted"
        case .healed: "healed"
        case .scriptError: "script error, the IO got \(verdict(record) ?? "no fault")"
        case .released: "released" + (verdict(record).map { ", \($0)" } ?? "")
        case .drained:
            "let go, the device is being taken away" + (verdict(record).map { ", \($0)" } ?? "")
        case .backingError: "backing error, the IO got \(verdict(record) ?? "no fault")"
        case .unsupported: "unknown operation, the IO got \(verdict(record) ?? "no fault")"
        case .copyError: "copy error, the IO got \(verdict(record) ?? "no fault")"
        }
    }

    /// The decision as a script would write it, but with times rounded to three digits; nil when it changes nothing.
    private func verdict(_ record: LedgerRecord) -> String? {
        var rest = record.decision
        (rest.delay_ns, rest.hangs, rest.hang_ns) = (0, 0, 0)
        var parts = rest.isNothing ? [] : [rest.text]
        let decision = record.decision
        if decision.delay_ns != 0 { parts.append("delay " + Rounded.time(decision.delay_ns)) }
        if decision.hangs != 0 {
            parts.append(decision.hang_ns == 0 ? "hang" : "hang " + Rounded.time(decision.hang_ns))
        }
        return parts.isEmpty ? nil : parts.joined(separator: " + ")
    }

    // MARK: Overwritten records

    /// The overwritten records by rule, the most first: `faulty.lua:5 cap 4000, faulty.lua handlers 12`.
    func overwritten(_ ledgers: [Ledger]) -> String {
        counts(ledgers).map { "\(who($0.rule)) \($0.count)" }.joined(separator: ", ")
    }

    /// The same as a line of JSON.
    ///
    /// - Parameter count: number of records that this reader has missed.
    func overwrittenLine(_ count: UInt64, _ ledgers: [Ledger]) -> String {
        let rules = counts(ledgers).map {
            "{\"who\":\(quoted(who($0.rule))),\"count\":\($0.count)}"
        }
        return
            "{\"action\":\"overwritten\",\"count\":\(count),\"all\":[\(rules.joined(separator: ","))]}"
    }

    private func counts(_ ledgers: [Ledger]) -> [(rule: Int32, count: UInt64)] {
        var sums: [Int32: UInt64] = [:]
        for (rule, count) in ledgers.flatMap(\.overwrittenByRule) {
            sums[rule, default: 0] += count
        }
        return sums.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { ($0.key, $0.value) }
    }

    private func who(_ rule: Int32) -> String {
        if rule == .max { return "other rules" }
        if rule == LedgerRecord.nobody { return "ctl and server" }
        guard rules.indices.contains(Int(rule)), rules[Int(rule)].number != 0 else {
            let name = rules.indices.contains(Int(rule)) ? rules[Int(rule)].script : nil
            return "\(name ?? script) handlers"
        }
        let label = rules[Int(rule)]
        return "\(label.script ?? script):\(label.line)"
            + (label.name.isEmpty ? "" : " \(label.name)")
    }

    // MARK: Another server

    /// A line of JSON from which on another server's records follow: their clock and the IOs' numbers begin anew.
    static let recoveredLine = "{\"action\":\"recovered\"}"

    // MARK: JSON

    private func json(_ record: LedgerRecord, _ queue: QueueID) -> String {
        var fields = [
            "\"t\":\(record.time)", "\"queue\":\(queue.rawValue)", "\"io\":\(record.sequence)",
            "\"op\":\(quoted(opName(record)))", "\"offset\":\(record.offset)",
            "\"length\":\(record.length)",
        ]
        let flags = flagNames(record)
        if !flags.isEmpty {
            fields.append("\"flags\":[\(flags.map(quoted).joined(separator: ","))]")
        }
        fields.append("\"action\":\(quoted(record.action))")
        if isHandler(record) {
            fields.append("\"handler\":\(quoted(opName(record)))")
            fields.append("\"script\":\(quoted(scriptName(record)))")
        } else if let label = label(record) {
            fields.append("\"line\":\(label.line)")
            if !label.name.isEmpty { fields.append("\"rule\":\(quoted(label.name))") }
            fields.append("\"script\":\(quoted(scriptName(record)))")
        }
        let decision = record.decision
        if decision.delay_ns != 0 { fields.append("\"delay_ns\":\(decision.delay_ns)") }
        if decision.hangs != 0 { fields.append("\"hang_ns\":\(decision.hang_ns)") }
        if decision.error != 0 {
            fields.append("\"errno\":\(quoted(Errno(rawValue: decision.error).name))")
        }
        if UInt32(decision.outcome) == US_OUTCOME_REDIRECT.rawValue {
            fields.append("\"to\":\(decision.to_offset)")
        }
        if !decision.isNothing { fields.append("\"verdict\":\(quoted(decision.text))") }
        if let draws = draws(record, queue) { fields.append("\"draws\":\(draws)") }
        return "{" + fields.joined(separator: ",") + "}"
    }

    /// Number of random numbers that the rule or handler had drawn when it decided; nil when it draws none.
    private func draws(_ record: LedgerRecord, _ queue: QueueID) -> UInt64? {
        guard record.random != 0, record.rule >= LedgerRecord.handler else { return nil }
        let stream = UInt32(label(record).map(\.number) ?? 0)
        let start = SplitMix64(seed: seed, queue: UInt32(queue.rawValue), stream: stream)
        return SplitMix64(state: record.random).draws(since: start.state)
    }

    private func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\" + String(scalar)
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    // MARK: Names

    private func label(_ record: LedgerRecord) -> RuleLabel? {
        rules.indices.contains(Int(record.rule)) ? rules[Int(record.rule)] : nil
    }

    private func opName(_ record: LedgerRecord) -> String {
        IOOp(rawValue: record.op)?.name ?? "op \(record.op)"
    }

    private func flagNames(_ record: LedgerRecord) -> [String] {
        RuleConditions.flagBits.filter { $0.bits & record.flags != 0 }.map(\.name)
    }
}
