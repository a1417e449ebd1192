import Testing

@testable import UblkScript

/// The examples of documents are scripts that work.
@Suite(.enabled(if: !SourceTree.swift.isEmpty, "the documents are not where the tests were built"))
struct DocumentTests {
    struct Example: Sendable, CustomTestStringConvertible {
        let document: String
        /// Of the first line of the script, from 1.
        let line: Int
        let text: String
        var testDescription: String { "\(document):\(line)" }
    }

    /// Documents whose blocks are whole scripts, or nearly.
    private static let documents = ["docs/coming-from.md", "docs/scripting.md", "README.md"]

    private static func examples(_ document: String) -> [Example] {
        let text = contents(of: "\(SourceTree.root)/\(document)") ?? ""
        var found: [Example] = []
        var open: (line: Int, lines: [Substring])?
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            if line == "```lua" {
                open = (index + 2, [])
            } else if line == "```", let block = open {
                found.append(
                    Example(
                        document: document,
                        line: block.line,
                        text: block.lines.joined(separator: "\n")
                    )
                )
                open = nil
            } else {
                open?.lines.append(line)
            }
        }
        return found
    }

    private static let all = documents.flatMap(examples)

    @Test func `examples are found`() { #expect(Self.all.count > 20) }

    @Test(arguments: all)
    func `every example loads and runs`(example: Example) throws {
        let device = example.text.contains("device {") ? "" : "device { size = \"1G\" }"
        let source = ScriptSource(path: "example.lua", text: device + "\n" + example.text)
        var simulation = Simulation()
        simulation.workload.requests = 500
        let seed = Setting(key: "seed", value: .integer(1), origin: "test")
        let report = try simulation.run(try LoadedScript.plan(source, overrides: [seed])).report
        #expect(report.scriptErrors.count == 0, "\(report.scriptErrors.texts)")
        let outcomes = try ScriptTestRun(source, overrides: [seed]).run()
        #expect(outcomes.compactMap(\.failure) == [])
    }

    @Test func `every key of a rule and every verdict has an example`() {
        let examples = Self.all.filter { $0.document == "docs/scripting.md" }.map(\.text)
        func isShown(_ name: String, _ behind: [Character]) -> Bool {
            examples.contains { text in
                text.split(separator: name, omittingEmptySubsequences: false).dropFirst().contains {
                    $0.drop(while: { $0 == " " }).first.map(behind.contains) ?? false
                }
            }
        }
        let verdicts = [
            "fail", "delay", "hang", "done", "drop", "zero", "ignore_fua", "to", "misdirect",
            "corrupt", "store",
        ]
        let missing =
            Rule.keys.filter { !isShown($0, ["="]) }
            + verdicts.filter { !isShown($0, ["(", "{"]) }
        #expect(missing == [])
        #expect(!isShown("nothing_of_that_name", ["="]))
    }
}
