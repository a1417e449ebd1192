import ArgumentParser

/// `faults`: lists the scripts that are shipped inside this program, and prints their manuals.
struct FaultsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "faults",
        abstract:
            "List the scripts inside this program, faults and block targets, or show one's manual.",
        discussion: """
            Their names stand for a script wherever one is expected:
              ublk-script add flakey up=10s down=2s size=1G
              ublk-script add mirror size=1G
            """
    )

    @Argument(
        help: "Show this one.",
        completion: .custom { _, _, _ in ShippedScript.all.map(\.name) }
    )
    var name: String?

    @Flag(help: "Print the whole script, to begin one of your own with.")
    var source = false

    @Flag(help: "Print JSON.")
    var json = false

    private struct Entry: Encodable {
        var kind: ShippedScript.Kind
        var name: String
        var summary: String
        var manual: String
        var source: String?

        init(_ script: ShippedScript, withSource: Bool) {
            kind = script.kind
            name = script.name
            summary = script.summary
            manual = script.manual
            source = withSource ? script.text : nil
        }
    }

    func run() throws {
        let all = ShippedScript.all
        guard let name else {
            guard !source else { throw ValidationError("--source of which script?") }
            if json { return Output.line(JSON.text(all.map { Entry($0, withSource: false) })) }
            return list(all)
        }
        guard let script = ShippedScript.named(name) else {
            let names = all.map(\.name).joined(separator: ", ")
            throw Failure("\"\(name)\" is no script of this program. There are: \(names)")
        }
        if json { return Output.line(JSON.text(Entry(script, withSource: source))) }
        try Output.now(source ? script.text : Self.text(script.manual) + "\n")
    }

    /// Sections of a manual that are running text; other sections keep their line breaks.
    private static let prose: Set<Substring> = ["What", "Imitates", "You see", "Numbers"]

    /// A manual, wrapped to the width of the terminal.
    static func text(_ manual: String) -> String {
        var lines: [Substring] = []
        var section: Substring = ""
        for line in manual.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.first != " " { section = line.prefix { $0 != ":" } }
            if line.first == " ", prose.contains(section), let last = lines.popLast() {
                lines.append(last + " " + line.drop { $0 == " " })
            } else {
                lines.append(line)
            }
        }
        return Wrap.text(lines.joined(separator: "\n"))
    }

    /// Prints the scripts, with a section for each kind.
    private func list(_ all: [ShippedScript]) {
        let width = (all.map(\.name.count).max() ?? 0) + 2
        for kind in ShippedScript.Kind.allCases {
            Output.line(kind == .faults ? "Faults:" : "\nBlock targets:")
            for script in all where script.kind == kind {
                let blanks = String(repeating: " ", count: width - script.name.count)
                Output.line(Wrap.text("  " + script.name + blanks + script.summary))
            }
        }
    }
}
