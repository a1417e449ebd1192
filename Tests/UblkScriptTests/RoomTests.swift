import Testing

@testable import UblkScript

/// Holds the folders of `Sources/UblkScript` to what they may use of each other.
///
/// They are one module, so no `import` tells. A type belongs to the folder that declares it at the margin of a
/// file; a use is its name in the code of another folder.
@Suite(.enabled(if: !SourceTree.swift.isEmpty, "the sources are not where the tests were built"))
struct RoomTests {
    /// Each room after those it stands on, with the ones it uses directly.
    static let rooms: [(name: String, uses: [String])] = [
        ("System", []),
        ("UAPI", []),
        ("Uring", ["UAPI"]),
        ("Control", ["System", "UAPI", "Uring"]),
        ("Telemetry", ["UAPI"]),
        ("Config", ["System", "UAPI", "Telemetry"]),
        ("Rules", ["System", "UAPI", "Telemetry", "Config"]),
        ("Script", ["System", "UAPI", "Telemetry", "Config", "Rules"]),
        ("Media", ["System", "UAPI", "Config"]),
        ("DataPlane", ["System", "UAPI", "Telemetry", "Config", "Rules", "Script", "Media"]),
        ("Driver", ["System", "UAPI", "Uring", "Control", "Media", "DataPlane"]),
        (
            "Admin",
            ["System", "UAPI", "Control", "Telemetry", "Config", "Rules", "Script", "DataPlane"]
        ),
        (
            "Server",
            [
                "System", "UAPI", "Control", "Telemetry", "Config", "Rules", "Script", "Media",
                "DataPlane", "Driver", "Admin",
            ]
        ),
        ("Workload", ["System", "UAPI", "Config", "Rules", "DataPlane", "Admin"]),
        (
            "Simulator",
            [
                "System", "UAPI", "Telemetry", "Config", "Rules", "Script", "Media", "DataPlane",
                "Admin", "Workload",
            ]
        ),
        (
            "ScriptTests",
            [
                "System", "UAPI", "Config", "Rules", "Script", "Admin", "Workload", "Simulator",
            ]
        ),
        (
            "Benchmark",
            [
                "System", "UAPI", "Rules", "Script", "Media", "DataPlane", "Workload", "Simulator",
            ]
        ),
        (
            "CLI",
            [
                "System", "UAPI", "Control", "Telemetry", "Config", "Script", "Admin", "Server",
                "Workload", "Simulator", "ScriptTests", "Benchmark",
            ]
        ),
    ]

    /// The room of each type.
    static let roomOfType: [String: String] = {
        var found: [String: String] = [:]
        for file in SourceTree.swift {
            for line in FoundFunction.code(of: file) {
                if let name = declaredType(line) { found[name] = file.folder }
            }
        }
        return found
    }()

    /// The type that a line declares for all files; nil: none, or one within another.
    static func declaredType(_ line: String) -> String? {
        var words = line.split { !($0.isLetter || $0.isNumber || $0 == "_") }
        guard let first = line.first, first != " ", first != "}" else { return nil }
        let modifiers = [
            "safe", "unsafe", "final", "indirect", "nonisolated", "public", "unchecked",
        ]
        while let word = words.first, modifiers.contains(String(word)) { words.removeFirst() }
        guard words.count >= 2 else { return nil }
        let kinds = ["struct", "enum", "class", "protocol", "actor", "typealias"]
        return kinds.contains(String(words[0])) ? String(words[1]) : nil
    }

    /// The types of other rooms in a line of code; members of something (`a.Name`) are not looked up.
    static func usedTypes(_ line: String) -> [Substring] {
        var names: [Substring] = []
        var rest = line[...]
        while let start = rest.firstIndex(where: { $0.isLetter || $0 == "_" }) {
            let isMember = start > rest.startIndex && rest[rest.index(before: start)] == "."
            let word = rest[start...].prefix { $0.isLetter || $0.isNumber || $0 == "_" }
            if !isMember, word.first?.isUppercase == true { names.append(word) }
            rest = rest[word.endIndex...]
        }
        return names
    }

    /// Each use of a room by another one: `path:line: Type of Room`.
    static let uses: [(from: String, to: String, place: String)] = {
        var found: [(from: String, to: String, place: String)] = []
        for file in SourceTree.swift {
            guard let room = file.folder else { continue }
            let code = FoundFunction.code(of: file)
            // Also types within others, which hide those of that name elsewhere.
            let own = Set(code.compactMap { declaredType(String($0.drop { $0 == " " })) })
            for (index, line) in code.enumerated() {
                for name in usedTypes(line) where !own.contains(String(name)) {
                    guard let other = roomOfType[String(name)], other != room else { continue }
                    found.append((room, other, "\(file.path):\(index + 1): \(name) of \(other)"))
                }
            }
        }
        return found
    }()

    @Test func `a room uses only those that the table allows`() {
        let allowed = Dictionary(uniqueKeysWithValues: Self.rooms.map { ($0.name, $0.uses) })
        let offenders = Self.uses.filter { allowed[$0.from]?.contains($0.to) != true }
        #expect(offenders.isEmpty, "\(offenders.map(\.place).joined(separator: "\n"))")
    }

    @Test func `a room stands only on those before it in the table, and on no more than it uses`() {
        #expect(Self.rooms.map(\.name).sorted() == SourceTree.folders)
        var before: Set<String> = []
        for room in Self.rooms {
            let unused = room.uses.filter { other in
                !Self.uses.contains { $0.from == room.name && $0.to == other }
            }
            #expect(unused.isEmpty, "\(room.name) does not use \(unused)")
            #expect(before.isSuperset(of: room.uses), "\(room.name) uses a later one")
            before.insert(room.name)
        }
    }

    @Test func `the architecture's table of rooms is this one`() throws {
        let text = try #require(SourceTree.text(of: "docs/architecture.md"))
        for room in Self.rooms {
            let row = text.split(separator: "\n").first { $0.hasPrefix("| `\(room.name)/` |") }
            let told = row?.split(separator: "|").last.map { column in
                column.split { $0 == "," || $0 == " " }.map(String.init)
            }
            #expect(told?.filter { $0 != "CLua" && $0 != "CUring" } == room.uses, "\(room.name)")
        }
    }

    @Test func `types and their uses are found`() {
        #expect(Self.roomOfType["Queue"] == "DataPlane" && Self.roomOfType["Ring"] == "Uring")
        #expect(Self.declaredType("final class Ledger: Sendable {") == "Ledger")
        #expect(
            Self.declaredType("@safe struct A {") == "A" && Self.declaredType("    enum B {") == nil
        )
        #expect(Self.usedTypes("let a: Foo<Bar> = x.Baz(.Qux)") == ["Foo", "Bar"])
    }
}
