/// How a rule is identified to people and programs: by script, line and name.
struct RuleLabel: Sendable, Equatable {
    let line: Int32
    /// The rule's `name`; "" without one.
    let name: String
    /// Path of the file that must exist for the rule to act; nil: none.
    var trigger: String?
    /// Name of the script that declares the rule; nil: the script that the device was added with.
    var script: String?
    /// Number of the rule in that script, from 1; 0 is the label of a script's handlers.
    var number = 0

    /// True when the text is the rule's name or its line.
    func answers(to text: String) -> Bool { text == name || text == "\(line)" }
}
