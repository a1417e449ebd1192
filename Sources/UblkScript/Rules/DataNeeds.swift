import CLua

/// For which operations a script looks at or changes the data of an IO: that data has to be in our own memory, while
/// other data may stay where the driver has it.
///
/// Computed when the script is loaded; each property is a set of ``IOOp/bit``.
struct DataNeeds: Equatable, Sendable {
    /// Operations whose data a rule looks at before the decision (`content`).
    var compared: UInt32 = 0
    /// Operations whose data a rule changes after the decision: corrupts, zeroes, or assembles from several stores.
    var changed: UInt32 = 0
    /// Operations that have a handler, which may do both through methods of the IO.
    var handled: UInt32 = 0

    /// The operations whose data must be in our memory.
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
