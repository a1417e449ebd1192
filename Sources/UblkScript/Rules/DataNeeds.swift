import CLua

/// Of which operations a script's data is looked at or changed on its way, and by whom: what has to be in memory of
/// ours, while the rest may stay where the driver has it.
///
/// Computed when the script is loaded; each is a set of ``IOOp/bit``.
struct DataNeeds: Equatable, Sendable {
    /// Before the decision, by a rule: `data`.
    var compared: UInt32 = 0
    /// After the decision, by a rule: corrupted, zeroed, or put together from several stores.
    var changed: UInt32 = 0
    /// By a handler, which may do both: it asks for the bytes by name while it runs.
    var handled: UInt32 = 0

    /// All that is looked at or changed.
    var mapped: UInt32 { compared | changed | handled }

    func union(_ other: DataNeeds) -> DataNeeds {
        DataNeeds(
            compared: compared | other.compared,
            changed: changed | other.changed,
            handled: handled | other.handled
        )
    }

    /// The needs of rules, including those that are off and can be switched on.
    init(_ rules: [Rule]) {
        for rule in rules {
            if rule.conditions.content != nil { compared |= rule.ops & IOOp.write.bit }
            var decision = rule.decision
            changed |= unsafe rule.ops & us_decision_data_ops(&decision)
        }
    }

    private init(compared: UInt32, changed: UInt32, handled: UInt32) {
        self.compared = compared
        self.changed = changed
        self.handled = handled
    }
}
