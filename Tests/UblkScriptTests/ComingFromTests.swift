import Testing

@testable import UblkScript

/// Every line of docs/coming-from.md does what the other tool does: tests in Lua run that very line.
///
/// The files of Tests/UblkScriptTests/ComingFrom, one a tool, are made of sections. What is before the first one
/// belongs to all of the file. A section begins with a header:
///
///     --- PART | PART | ...
///
/// Each part is a piece of text that only one line of the document's Lua blocks has, and takes that line.
/// `block: PIECE` takes the whole block with that line. `text: PIECE` takes nothing: the piece is in the document
/// outside of its Lua blocks, and the section has lines of its own. `PIECE with OLD to NEW` changes what is taken,
/// which has OLD once: for a chance that is too small to wait for.
///
/// The lines taken, in the order of the document, then the file's own and the section's are one script, on a device of
/// 1 GiB unless it says another. Its tests run with one seed.
@Suite(.enabled(if: !SourceTree.swift.isEmpty, "the documents are not where the tests were built"))
struct ComingFromTests {
    private static let document = ComingFromDocument(
        contents(of: "\(SourceTree.root)/docs/coming-from.md") ?? ""
    )

    private static let sections =
        SourceTree.files(below: "Tests/UblkScriptTests/ComingFrom", endings: [".lua"])
        .flatMap(ComingFromSection.all)

    @Test(arguments: sections)
    func `the document's lines do what the other tool does`(section: ComingFromSection) throws {
        let text = try section.script(document: Self.document)
        let source = ScriptSource(path: "\(section.tool).lua", text: text)
        let seed = Setting(key: "seed", value: .integer(1), origin: "test")
        let outcomes = try ScriptTestRun(source, overrides: [seed]).run()
        #expect(!outcomes.isEmpty, "the section has no test")
        #expect(outcomes.compactMap(\.failure) == [], "\(numbered(text))")
    }

    @Test func `every line of the document has a test`() throws {
        var covered: Set<Int> = []
        for section in Self.sections {
            for line in try section.taken(document: Self.document) { covered.insert(line.number) }
        }
        let missing = Self.document.code.filter { line in
            !line.text.allSatisfy { $0 == " " } && !covered.contains(line.number)
        }
        let list = missing.map { "docs/coming-from.md:\($0.number): \($0.text)" }
        #expect(list.isEmpty, "no section takes\n\(list.joined(separator: "\n"))")
        #expect(Self.document.code.count > 100 && Self.sections.count > 80)
    }

    /// A script with the numbers that its failures name.
    private func numbered(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
            .map { "\($0.offset + 1): \($0.element)" }.joined(separator: "\n")
    }

    // MARK: The harness

    private static let example = ComingFromDocument(
        """
        a mark is `ctl 0 mark`
        ```lua
        local bad = ranges("bad")
        rule { op = "read", range = bad, p = 0.1, error = "EIO" } -- reads
        rule { op = "write", range = bad, error = "EIO" } -- writes
        ```
        ```lua
        device { size = "2G" }
        rule { error = "EIO" }
        ```
        """
    )

    private func script(_ header: String, _ body: String = "-- body") throws -> String {
        try ComingFromSection(tool: "example", header: header, body: body)
            .script(document: Self.example)
    }

    @Test func `a section takes lines in the order of the document, and blocks`() throws {
        let one = "device { size = \"1G\" } "
        let bad = "local bad = ranges(\"bad\")\n"
        let writes = "rule { op = \"write\", range = bad, error = \"EIO\" } -- writes\n"
        #expect(try script("-- writes | local bad") == one + bad + writes + "-- body")
        #expect(
            try script("block: size = \"2G\"")
                == "device { size = \"2G\" }\nrule { error = \"EIO\" }\n-- body"
        )
        #expect(try script("text: ctl 0 mark") == one + "-- body")
        #expect(
            try script("-- reads with p = 0.1 to p = 1")
                == one + "rule { op = \"read\", range = bad, p = 1, error = \"EIO\" } -- reads\n"
                + "-- body"
        )
    }

    @Test(arguments: [
        ("-- nothing", "0 lines have \"-- nothing\""),
        ("range = bad", "2 lines have \"range = bad\""),
        ("text: bad", "the text has \"bad\" 0 times"),
        ("-- reads with p = 0.2 to p = 1", "\"p = 0.2\" is 0 times in what is taken"),
        ("block: -- reads with EIO to EROFS", "\"EIO\" is 2 times in what is taken"),
    ])
    func `a header that does not fit the document fails`(header: String, message: String) {
        let error = #expect(throws: ComingFromSection.Mistake.self) { try script(header) }
        #expect(error?.text == "example: --- \(header): \(message)")
    }

    @Test func `what is before the first section belongs to each`() {
        let file = SourceTree.File(
            path: "Tests/tool.lua",
            lines: ["-- all", "--- a | b", "-- one", "--- c", "-- two"]
        )
        let found = ComingFromSection.all(file)
        #expect(found.map(\.header) == ["a | b", "c"])
        #expect(found.map(\.body) == ["-- all\n-- one", "-- all\n-- two"])
        #expect(found.map(\.tool) == ["tool", "tool"])
    }
}

/// The document, cut into its Lua and the rest.
struct ComingFromDocument {
    struct Line {
        /// From 1.
        let number: Int
        var text: String
        /// Which Lua block it is in, counted from 0.
        let block: Int
    }

    private(set) var code: [Line] = []
    private(set) var prose = ""

    init(_ text: String) {
        var blocks = 0
        var isCode = false
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            if line == "```lua" {
                isCode = true
            } else if isCode, line == "```" {
                isCode = false
                blocks += 1
            } else if isCode {
                code.append(Line(number: index + 1, text: String(line), block: blocks))
            } else {
                prose += line + "\n"
            }
        }
    }
}

/// Some lines of the document, and tests of them.
struct ComingFromSection: Sendable, CustomTestStringConvertible {
    /// What is wrong with a header.
    struct Mistake: Error, CustomStringConvertible {
        let text: String
        var description: String { text }
    }

    /// The name of the file.
    let tool: String
    let header: String
    /// The file's own lines and the section's.
    let body: String
    var testDescription: String { "\(tool): \(header)" }

    static func all(_ file: SourceTree.File) -> [ComingFromSection] {
        let tool = file.path.split(separator: "/").last?.split(separator: ".").first ?? ""
        let groups = file.lines.split(omittingEmptySubsequences: false) { $0.hasPrefix("--- ") }
        let headers = file.lines.filter { $0.hasPrefix("--- ") }
        return zip(headers, groups.dropFirst()).map { header, lines in
            ComingFromSection(
                tool: String(tool),
                header: String(header.dropFirst(4)),
                body: (groups[0] + lines).joined(separator: "\n")
            )
        }
    }

    func script(document: ComingFromDocument) throws -> String {
        let lines = try taken(document: document).map { $0.text + "\n" }.joined()
        let device = (lines + body).range(of: "device {") == nil ? "device { size = \"1G\" } " : ""
        return device + lines + body
    }

    /// The document's lines that the header names, changed as it says.
    func taken(document: ComingFromDocument) throws -> [ComingFromDocument.Line] {
        var lines: [Int: ComingFromDocument.Line] = [:]
        for part in pieces(header, " | ") {
            let change = pieces(part, " with ")
            for line in try taken(change[0], document, change: change.dropFirst().first) {
                lines[line.number] = line
            }
        }
        return lines.values.sorted { $0.number < $1.number }
    }

    private func taken(
        _ part: String,
        _ document: ComingFromDocument,
        change: String?
    ) throws -> [ComingFromDocument.Line] {
        if part.hasPrefix("text: ") {
            let piece = String(part.dropFirst(6))
            let count = pieces(document.prose, piece).count - 1
            guard count == 1 else { throw mistake("the text has \"\(piece)\" \(count) times") }
            return []
        }
        let isBlock = part.hasPrefix("block: ")
        let piece = isBlock ? String(part.dropFirst(7)) : part
        let hits = document.code.filter { $0.text.range(of: piece) != nil }
        guard hits.count == 1 else { throw mistake("\(hits.count) lines have \"\(piece)\"") }
        let lines = isBlock ? document.code.filter { $0.block == hits[0].block } : hits
        guard let change else { return lines }
        let words = pieces(change, " to ")
        guard words.count == 2 else { throw mistake("OLD to NEW is expected: \(change)") }
        let count = lines.map { pieces($0.text, words[0]).count - 1 }.reduce(0, +)
        guard count == 1 else {
            throw mistake("\"\(words[0])\" is \(count) times in what is taken")
        }
        return lines.map { line in
            var line = line
            line.text = pieces(line.text, words[0]).joined(separator: words[1])
            return line
        }
    }

    private func mistake(_ text: String) -> Mistake {
        Mistake(text: "\(tool): --- \(header): \(text)")
    }

    /// What is between the separators, without Foundation.
    private func pieces(_ text: String, _ separator: String) -> [String] {
        var found: [String] = []
        var rest = text
        while let range = rest.range(of: separator) {
            found.append(String(rest[..<range.lowerBound]))
            rest = String(rest[range.upperBound...])
        }
        return found + [rest]
    }
}
