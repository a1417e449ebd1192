import CLua

/// The words for what was done to an IO: the field `action` of a record, and the argument of `--action`.
extension LedgerRecord {
    static let actions =
        Outcome.all.filter { $0.number != UInt8(US_OUTCOME_PASS.rawValue) }.map(\.name)
        + ["corrupt", "torn", "ignore_fua", "hang", "delay", "acted"]
        + Kind.allCases.filter { $0 != .decided }.map(\.name)

    /// The word for what was done; a failure that was delayed as well is `fail`.
    var action: String {
        guard kind == .decided else { return kind.name }
        guard decision.outcome == UInt8(US_OUTCOME_PASS.rawValue) else {
            return Outcome(decision)?.name ?? "outcome \(decision.outcome)"
        }
        if decision.corrupt.mode != 0 { return "corrupt" }
        if decision.store.keep != 0 { return "torn" }
        if decision.ignores_fua != 0 { return "ignore_fua" }
        return decision.hangs != 0 ? "hang" : decision.delay_ns != 0 ? "delay" : "acted"
    }

    /// True when the action is among what was done; a failure that was delayed is `fail` and `delay`.
    func has(action name: String) -> Bool {
        if action == name { return true }
        guard kind == .decided else { return false }
        switch name {
        case "corrupt": return decision.corrupt.mode != 0
        case "torn": return decision.store.keep != 0
        case "ignore_fua": return decision.ignores_fua != 0
        case "hang": return decision.hangs != 0
        case "delay": return decision.delay_ns != 0
        default: return false
        }
    }
}

extension LedgerRecord.Kind {
    var name: String {
        switch self {
        case .scriptError: "script_error"
        case .backingError: "backing_error"
        case .copyError: "copy_error"
        default: "\(self)"
        }
    }
}
