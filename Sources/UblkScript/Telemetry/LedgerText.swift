import CLua
import SystemPackage

/// A ledger's records as lines: for people, or as JSON for programs.
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

    // MARK: For people

    private func text(_ record: LedgerRecord, _ queue: QueueID) -> String {
        let seconds = record.time / 1_000_000_000
        let digits = String(record.time % 1_000_000_000)
        let fraction = String(repeating: "0", count: 9 - digits.count) + digits
        let flags = flagNames(record).map { " " + $0 }.joined()
        return "\(seconds).\(fraction)  q\(queue.rawValue) io \(record.sequence)  "
            + "\(opName(record)) \(record.offset)+\(record.length)\(flags)  \(who(record)): \(action(record))"
    }

    private func who(_ record: LedgerRecord) -> String {
        if isHandler(record) { return "\(scriptName(record)) \(opName(record))()" }
        if record.rule == LedgerRecord.nobody { return record.kind == .released ? "ctl" : "server" }
        return "\(scriptName(record)):\(label(record)?.line ?? 0)"
            + (label(record).map { $0.name.isEmpty ? "" : " \($0.name)" } ?? "")
    }

    /// Handlers of the first script have no label, those of later ones the number 0.
    private func isHandler(_ record: LedgerRecord) -> Bool {
        record.rule == LedgerRecord.handler || label(record)?.number == 0
    }

    private func scriptName(_ record: LedgerRecord) -> String { label(record)?.script ?? script }

    private func action(_ record: LedgerRecord) -> String {
        switch record.kind {
        case .decided: verdict(record) ?? "acted"
        case .healed: "healed"
        case .scriptError: "script error, the IO got \(verdict(record) ?? "no fault")"
        case .released: "released" + (verdict(record).map { ", \($0)" } ?? "")
        case .drained:
            "let go, the device is being taken away" + (verdict(record).map { ", \($0)" } ?? "")
        case .backingError: "backing error, the IO got \(verdict(record) ?? "no fault")"
        case .unsupported: "unknown operation, the IO got \(verdict(record) ?? "no fault")"
        }
    }

    /// As a script would write it; nil for a decision that changes nothing.
    private func verdict(_ record: LedgerRecord) -> String? {
        record.decision.isNothing ? nil : record.decision.text
    }

    // MARK: For programs

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
        fields.append("\"action\":\(quoted(kindName(record)))")
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
        if let verdict = verdict(record) { fields.append("\"verdict\":\(quoted(verdict))") }
        if let draws = draws(record, queue) { fields.append("\"draws\":\(draws)") }
        return "{" + fields.joined(separator: ",") + "}"
    }

    private func kindName(_ record: LedgerRecord) -> String {
        switch record.kind {
        case .scriptError: return "script_error"
        case .backingError: return "backing_error"
        case .decided:
            let outcome = outcomeName(record)
            guard outcome == "pass" else { return outcome }
            if record.decision.corrupt.mode != 0 { return "corrupt" }
            if record.decision.store.keep != 0 { return "torn" }
            if record.decision.ignores_fua != 0 { return "ignore_fua" }
            return record.decision.hangs != 0
                ? "hang" : record.decision.delay_ns != 0 ? "delay" : "acted"
        default: return "\(record.kind)"
        }
    }

    /// How many numbers the deciding stream had given; nil when it was not asked.
    private func draws(_ record: LedgerRecord, _ queue: QueueID) -> UInt64? {
        guard record.random != 0, record.rule >= LedgerRecord.handler else { return nil }
        let stream = UInt32(label(record).map(\.number) ?? 0)
        let start = us_random_stream(seed, UInt32(queue.rawValue), stream).state
        return us_random_draws(start, record.random)
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

    private func outcomeName(_ record: LedgerRecord) -> String {
        let number = UInt32(record.decision.outcome)
        guard let name = unsafe us_outcome_name(number) else { return "outcome \(number)" }
        return unsafe String(cString: name)
    }

    private func opName(_ record: LedgerRecord) -> String {
        IOOp(rawValue: record.op)?.name ?? "op \(record.op)"
    }

    private func flagNames(_ record: LedgerRecord) -> [String] {
        RuleConditions.flagBits.filter { $0.bits & record.flags != 0 }.map(\.name)
    }
}
