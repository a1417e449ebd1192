import Testing

@testable import UblkScript

/// Reads the project's own files: what may import what, how long things are, where links lead.
///
/// One module does not police its folders, so this does.
@Suite(.enabled(if: !SourceTree.swift.isEmpty, "the sources are not where the tests were built"))
struct TidyTests {
    /// Fails once with all offenders, each `path:line: what`.
    private func expectNone(_ offenders: [String], _ location: SourceLocation = #_sourceLocation) {
        #expect(offenders.isEmpty, "\(offenders.joined(separator: "\n"))", sourceLocation: location)
    }

    /// Each line of the files that `isWrong`.
    private func offenders(
        _ files: [SourceTree.File],
        _ what: String,
        where isWrong: (SourceTree.File, Substring) -> Bool
    ) -> [String] {
        files.flatMap { file in
            file.lines.enumerated().filter { isWrong(file, $0.element) }.map {
                "\(file.path):\($0.offset + 1): \(what)"
            }
        }
    }

    private func imports(_ line: Substring, _ module: String) -> Bool {
        line.split(separator: " ").last.map { $0 == module } == true && line.contains("import ")
    }

    // MARK: Who may import what

    /// Folders that may import a module.
    ///
    /// CLua's plain structs `us_io` and `us_decision` are what DataPlane works on. CUring has the C library's `struct
    /// stat` and `timespec`, too, and which of the two modules gives them to Swift depends on what was compiled before.
    private static let importers: [(module: String, folders: Set<String>)] = [
        ("CLua", ["Config", "Rules", "Script", "ScriptTests", "DataPlane", "Telemetry", "Admin"]),
        (
            "CUring",
            ["System", "UAPI", "Uring", "Control", "Driver", "CLI", "Media", "Script", "Server"]
        ),
        ("ArgumentParser", ["CLI"]),
        ("Foundation", ["CLI"]),
        ("FoundationEssentials", ["CLI"]),
        ("Logging", ["Server"]),
    ]

    @Test(arguments: importers)
    func `a module is imported only where the import table allows it`(
        module: String,
        folders: Set<String>
    ) {
        expectNone(
            offenders(SourceTree.swift, "import \(module)") { file, line in
                imports(line, module) && !folders.contains(file.folder ?? "")
            }
        )
    }

    @Test func `the import table has something to forbid and something to allow`() {
        for (module, folders) in Self.importers where module != "Foundation" {
            let users = SourceTree.swift.filter { $0.lines.contains { imports($0, module) } }
            #expect(users.contains { folders.contains($0.folder ?? "") }, "\(module)")
        }
    }

    @Test func `only the command line prints`() {
        expectNone(
            offenders(SourceTree.swift, "print(") { file, line in
                file.folder != "CLI" && line.contains("print(") && !line.contains("//")
            }
        )
    }

    @Test func `only one C target reads liburing, and only the other reads Lua`() {
        expectNone(
            offenders(SourceTree.clang, "include") { file, line in
                guard line.hasPrefix("#include") else { return false }
                return line.contains("<liburing") && !file.path.hasPrefix("Sources/CUring/")
                    || line.contains("lua.h>") && !file.path.hasPrefix("Sources/CLua/")
            }
        )
    }

    /// An object that needs no Lua is Swift, and the Lua functions reach it by `objects.h`.
    @Test func `the C beside Lua calls Lua, but for the tables of its words`() {
        let tables = ["decision.c", "errnos.c", "shipped.c", "vocabulary.c"]
        let withoutLua = SourceTree.clang.filter { file in
            file.path.hasPrefix("Sources/CLua/") && file.path.hasSuffix(".c")
                && !["script_state", "natives", "userdata", "lua_api"].contains {
                    file.lines.contains("#include \"\($0).h\"")
                }
        }
        #expect(withoutLua.map(\.path).sorted() == tables.map { "Sources/CLua/\($0)" })
    }

    /// A server that waits in the kernel for its own device cannot be killed (`LockFreeQueries`).
    @Test func `a server gives no control command that can wait once it serves`() {
        let others = [
            "OutsideProcess.swift", "NewDevice.swift", "RecoveredDevice.swift", "Aftermath.swift",
        ].map { "Sources/UblkScript/Server/\($0)" }
        func makesOne(_ line: Substring) -> Bool {
            line.contains("ControlDevice(") || line.contains("DriverControl(")
        }
        expectNone(
            offenders(SourceTree.swift, "use DriverQueries or OutsideControl") { file, line in
                ["Server", "Driver", "DataPlane"].contains(file.folder ?? "")
                    && !others.contains(file.path)
                    && makesOne(line)
            }
        )
        for other in others {
            let file = SourceTree.swift.first { $0.path == other }
            #expect(file?.lines.contains(where: makesOne) == true, "\(other) needs no exception")
        }
    }

    /// A clock goes on while the machine stands still, and then who looks at it blames the other side.
    @Test func `a time limit is a TimeLimit, no look at the clock`() {
        // What else they want to know the time for.
        let others = [
            "System/SystemCall.swift", "System/TimeLimit.swift", "System/WaitClock.swift",
            "Admin/AdminCallers.swift", "CLI/WaitCommand.swift",
        ].map { "Sources/UblkScript/\($0)" }
        func looks(_ line: Substring) -> Bool {
            line.contains("monotonicNanoseconds") || line.contains("sys_monotonic_ns")
        }
        expectNone(
            offenders(SourceTree.swift, "use TimeLimit") { file, line in
                ["System", "UAPI", "Control", "Admin", "Server", "CLI"].contains(file.folder ?? "")
                    && !others.contains(file.path) && looks(line)
            }
        )
        for other in others {
            let file = SourceTree.swift.first { $0.path == other }
            #expect(file?.lines.contains(where: looks) == true, "\(other) needs no exception")
        }
    }

    /// `OSThread(name:)` ends the process when a thread cannot be made: a server would lose its device, the process
    /// beside it an answer, and a command would crash.
    @Test func `only a simulation ends with a thread that cannot be made`() {
        let simulations = ["Simulator", "ScriptTests", "System"]
        expectNone(
            offenders(SourceTree.swift, "use OSThread(trying:)") { file, line in
                !simulations.contains(file.folder ?? "") && line.contains("OSThread(name:")
            }
        )
    }

    /// Whoever waits at an eventfd that was not written to waits for ever.
    @Test func `an eventfd is written to until it is done`() {
        expectNone(
            offenders(SourceTree.swift, "use SystemCall.notify") { file, line in
                line.contains(", &one, 8)") && !file.path.hasSuffix("SystemCall.swift")
            }
        )
    }

    // MARK: How long

    @Test func `files have at most 400 lines`() {
        let files = SourceTree.swift + SourceTree.clang + SourceTree.tests
        expectNone(
            files.filter { $0.lines.count > 401 }.map { "\($0.path): \($0.lines.count - 1) lines" }
        )
    }

    @Test func `functions have at most 60 lines`() {
        let functions = SourceTree.swift.flatMap { file in
            FoundFunction.all(in: file).map { (file.path, $0) }
        }
        #expect(functions.count > 300, "the counter sees functions")
        expectNone(
            functions.filter { $0.1.length > 60 }.map { path, function in
                "\(path):\(function.line): \(function.name) has \(function.length) lines"
            }
        )
    }

    @Test func `the brace counter counts`() throws {
        let text = """
            struct S {
                init(_ x: Int) {
                    if x > 0 { f("}") }  // }
                }
                func f(_ text: String) {
                    let many = "{"
                }
            }
            """
        let file = SourceTree.File(path: "x.swift", lines: text.split(separator: "\n"))
        let found = FoundFunction.all(in: file)
        #expect(found.map(\.name) == ["init(", "f"])
        #expect(found.map(\.line) == [2, 5])
        #expect(found.map(\.length) == [3, 3])
    }

    @Test func `comments have at most 120 columns`() {
        let files = SourceTree.swift + SourceTree.clang + SourceTree.tests
        expectNone(
            offenders(files, "a comment of more than 120 columns") { _, line in
                guard line.count > 120 else { return false }
                let text = line.drop { $0 == " " }
                return text.hasPrefix("//") || text.hasPrefix("/*") || text.hasPrefix("*")
            }
        )
    }

    // MARK: Loose ends

    @Test func `nothing is left to do in the sources`() {
        // Spelled in two parts, so that this file does not find itself.
        let words = ["TO" + "DO", "FIX" + "ME", "XX" + "X"]
        expectNone(
            offenders(SourceTree.swift + SourceTree.clang + SourceTree.tests, "left to do") {
                _,
                line in
                words.contains { line.contains($0) } && !line.contains("-XXXXXX")
            }
        )
    }

    @Test func `no pipe ends in a grep -q, whose writer may die of SIGPIPE`() {
        #expect(SourceTree.shell.count > 40)
        expectNone(
            offenders(SourceTree.shell, "has_line reads to the end") { _, line in
                line.contains(#/[^|]\| *grep -[a-zA-Z]*q/#)
            }
        )
    }

    @Test func `every safe type that hides unsafe code says why it is safe`() {
        expectNone(
            SourceTree.swift.filter { file in
                file.lines.contains { $0.drop { $0 == " " } == "@safe" }
                    && !file.lines.contains { $0.contains("Safety:") }
            }.map { "\($0.path): @safe without a line `Safety:`" }
        )
    }

    // MARK: Documents

    private static let documents =
        SourceTree.files(below: "docs", endings: [".md"])
        + ["README.md", "CONTRIBUTING.md"].compactMap { name in
            contents(of: "\(SourceTree.root)/\(name)").map {
                SourceTree.File(
                    path: name,
                    lines: $0.split(separator: "\n", omittingEmptySubsequences: false)
                )
            }
        }

    /// The targets of `[text](target)` in a line, without those on the web.
    private static func links(_ line: Substring) -> [String] {
        line.split(separator: "]", omittingEmptySubsequences: false).dropFirst().compactMap {
            part in
            guard part.hasPrefix("("), let end = part.firstIndex(of: ")") else { return nil }
            let target = part[part.index(after: part.startIndex)..<end]
            return target.contains("://") || target.hasPrefix("mailto:") ? nil : String(target)
        }
    }

    @Test func `links in documents lead to files`() {
        var broken: [String] = []
        for document in Self.documents {
            let folder = document.path.split(separator: "/").dropLast().joined(separator: "/")
            for (index, line) in document.lines.enumerated() {
                for link in Self.links(line) {
                    let file = link.prefix { $0 != "#" }
                    // Within the document itself.
                    if file.isEmpty { continue }
                    let path =
                        file.hasPrefix("/") ? String(file) : "\(SourceTree.root)/\(folder)/\(file)"
                    if !exists(path) { broken.append("\(document.path):\(index + 1): \(link)") }
                }
            }
        }
        expectNone(broken)
    }

    @Test func `links are found`() {
        #expect(
            Self.links("see [a](b.md) and [c](docs/d.md#e), not [f](https://g) or (h)") == [
                "b.md", "docs/d.md#e",
            ]
        )
        #expect(Self.links("array[1](x)") == ["x"])
        #expect(Self.links("nothing").isEmpty)
    }

    private func exists(_ path: String) -> Bool {
        contents(of: path) != nil || !DirectoryListing.names(path).isEmpty
    }

    @Test func `the architecture names every folder`() throws {
        guard let text = contents(of: "\(SourceTree.root)/docs/architecture.md") else { return }
        expectNone(
            SourceTree.folders.filter { !text.contains("\($0)/") }.map {
                "docs/architecture.md: no \($0)/"
            }
        )
    }

    @Test func `the documents name every key`() {
        guard let text = contents(of: "\(SourceTree.root)/docs/scripting.md") else { return }
        expectNone(
            (DeviceConfig.keys + Rule.keys).filter {
                !text.contains("`\($0)`") && !text.contains("`\($0) = ")
            }
            .map { "docs/scripting.md: no `\($0)`" }
        )
    }

    /// Names in the text that are code, the words of `` `c:add(n)` `` for example.
    private static func codeWords(_ text: String) -> Set<Substring> {
        var words: Set<Substring> = []
        for (index, part) in text.split(separator: "`", omittingEmptySubsequences: false)
            .enumerated()
        where index % 2 == 1 {
            words.formUnion(part.split { !($0.isLetter || $0.isNumber || $0 == "_") })
        }
        return words
    }

    /// What C registers for scripts: `{"ranges:add(offset, length)", function}` and `[FIELD] = "name"` in the files
    /// that hand out objects.
    private static var memberNames: [Substring] {
        var names: [Substring] = []
        for file in SourceTree.clang
        where file.path.hasPrefix("Sources/CLua/") && file.text.contains("lua_State") {
            for entry in file.text.split(separator: "{\"").dropFirst() {
                let signature = entry.prefix { $0 != "\"" }.prefix { $0 != "(" && $0 != "{" }
                names += signature.split { $0 == ":" || $0 == "." }.suffix(1)
            }
            for line in file.lines where line.contains("] = \"") {
                names += line.split(separator: "\"").dropFirst().prefix(1)
            }
        }
        return names.filter { name in
            name.first?.isLetter == true
                && name.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" }
        }
    }

    @Test func `the documents name everything that a script can use`() throws {
        guard let text = contents(of: "\(SourceTree.root)/docs/scripting.md") else { return }
        // Without the fences of examples, which are three of them.
        let known = Self.codeWords(text.split(separator: "```").joined(separator: " "))
        let globals = try ScriptHarness.value(
            of: """
                (function()
                  local names = {}
                  for name in pairs(_G) do names[#names + 1] = name end
                  return table.concat(names, " ")
                end)()
                """
        ).split(separator: " ")
        #expect(globals.count > 50 && Self.memberNames.contains("u64"))
        #expect(Self.memberNames.contains("remove") && Self.memberNames.contains("offset"))
        expectNone(
            (globals + Self.memberNames).filter { !known.contains($0) }
                .map { "docs/scripting.md: no `\($0)`" }
        )
    }
}
