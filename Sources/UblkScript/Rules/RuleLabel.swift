/// What people call a rule by: its line and its name.
struct RuleLabel: Sendable, Equatable {
    let line: Int32
    /// The rule's `name`; "" without one.
    let name: String
    /// The file that has to be there for the rule to act; nil: none.
    var trigger: String?
    /// Name of the script that declares the rule; nil: the script that runs.
    var script: String?
    /// Number of the rule in that script, from 1.
    var number = 0

    /// True for the rule's name or line.
    func answers(to text: String) -> Bool { text == name || text == "\(line)" }
}
