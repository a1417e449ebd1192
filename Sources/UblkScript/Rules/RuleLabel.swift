/// How people tell a rule from the others.
struct RuleLabel: Sendable, Equatable {
    let line: Int32
    /// "" without one.
    let name: String
    /// The file that has to be there for the rule to act; nil: none.
    var trigger: String?
    /// The script's name; nil: that of the one that runs.
    var script: String?
    /// Its place in that script, from 1.
    var number = 0

    /// True for the rule's name or line.
    func answers(to text: String) -> Bool { text == name || text == "\(line)" }
}
