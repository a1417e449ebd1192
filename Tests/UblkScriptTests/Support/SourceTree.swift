@testable import UblkScript

/// The project's own files, for tests that read them.
enum SourceTree {
    /// The checkout these tests were built from.
    static let root = String(
        #filePath.dropLast("/Tests/UblkScriptTests/Support/SourceTree.swift".count)
    )

    struct File: Sendable {
        /// From the root: `Sources/UblkScript/CLI/Main.swift`.
        let path: String
        let lines: [Substring]
        var text: String { lines.joined(separator: "\n") }
        /// The folder of `Sources/UblkScript` it is in.
        var folder: String? {
            let parts = path.split(separator: "/")
            return parts.count == 4 && path.hasPrefix("Sources/UblkScript/")
                ? String(parts[2]) : nil
        }
    }

    /// Every file below `folder` that ends so, in order of path.
    static func files(below folder: String, endings: [String]) -> [File] {
        var found: [File] = []
        for name in DirectoryListing.names("\(root)/\(folder)").sorted() where !name.hasPrefix(".")
        {
            let path = "\(folder)/\(name)"
            if endings.contains(where: { name.hasSuffix($0) }) {
                guard let text = contents(of: "\(root)/\(path)") else { continue }
                found.append(
                    File(
                        path: path,
                        lines: text.split(separator: "\n", omittingEmptySubsequences: false)
                    )
                )
            } else {
                found += files(below: path, endings: endings)
            }
        }
        return found
    }

    /// The text of a file; nil when it is not there.
    static func text(of path: String) -> String? { contents(of: "\(root)/\(path)") }

    static let swift = files(below: "Sources/UblkScript", endings: [".swift"])
    static let clang = files(below: "Sources", endings: [".c", ".h"])
    static let tests = files(below: "Tests", endings: [".swift"])
    /// Scripts of the shell, most of which have no ending.
    static let shell = [
        "scripts", "scripts/lib-vm", "scripts/lib-install", "Tests/Device", "Tests/VM",
    ].flatMap { files(below: $0, endings: [""]) }

    /// The folders of `Sources/UblkScript`.
    static let folders = Array(Set(swift.compactMap(\.folder))).sorted()
}

/// A function found by counting braces.
struct FoundFunction {
    let name: String
    /// From 1.
    let line: Int
    let length: Int

    /// The functions, initializers and test bodies of a Swift file.
    static func all(in file: SourceTree.File) -> [FoundFunction] {
        var found: [FoundFunction] = []
        var open: [(name: String, line: Int, depth: Int)] = []
        var pending: (name: String, line: Int)?
        var depth = 0
        var isText = false
        for (index, raw) in file.lines.enumerated() {
            let line = code(raw, &isText)
            if let name = declared(line) { pending = (name, index + 1) }
            for character in line {
                if character == "{" {
                    depth += 1
                    if let function = pending { open.append((function.name, function.line, depth)) }
                    pending = nil
                } else if character == "}" {
                    if let last = open.last, last.depth == depth {
                        found.append(
                            FoundFunction(
                                name: last.name,
                                line: last.line,
                                length: index + 2 - last.line
                            )
                        )
                        open.removeLast()
                    }
                    depth -= 1
                }
            }
        }
        return found
    }

    /// The file's lines without comments and literals.
    static func code(of file: SourceTree.File) -> [String] {
        var isText = false
        return file.lines.map { code($0, &isText) }
    }

    /// The line without comments and literals, in which braces mean nothing.
    private static func code(_ line: Substring, _ isText: inout Bool) -> String {
        if line.contains("\"\"\"") {
            isText.toggle()
            return ""
        }
        if isText { return "" }
        var code = ""
        var isQuoted = false
        var last: Character = " "
        for character in line {
            if character == "\"", last != "\\" { isQuoted.toggle() }
            if !isQuoted {
                if character == "/", last == "/" { return String(code.dropLast()) }
                code.append(character)
            }
            last = character
        }
        return code
    }

    private static func declared(_ line: String) -> String? {
        for marker in ["func ", "init(", "init?(", "deinit"] {
            guard let range = line.range(of: marker) else { continue }
            let before = line[..<range.lowerBound].last
            guard before == nil || before == " " else { continue }
            // A call of `self.init` or of an initializer is no declaration, and has no brace of its own.
            let name =
                marker == "func "
                ? line[range.upperBound...].prefix { $0 != "(" && $0 != "<" } : Substring(marker)
            return String(name)
        }
        return nil
    }
}

extension String {
    /// Where `part` is, without Foundation.
    func range(of part: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(part) { return start..<index(start, offsetBy: part.count) }
            start = index(after: start)
        }
        return nil
    }
}
