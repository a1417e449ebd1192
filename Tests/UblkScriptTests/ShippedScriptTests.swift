import ArgumentParser
import Testing

@testable import UblkScript

/// The scripts of scripts/faults and scripts/targets: inside the program, documented, and of use as they are.
@Suite(.enabled(if: !SourceTree.swift.isEmpty, "the sources are not where the tests were built"))
struct ShippedScriptTests {
    private static let all = ShippedScript.all

    /// The parts of a manual header that every script has, in this order; Live may be among them, and every fault
    /// has Simulate.
    private static let parts = [
        "What", "Imitates", "Parameters", "Example", "Simulate", "Live", "You see", "Numbers",
    ]

    private func plan(_ script: ShippedScript, _ words: [String] = []) throws -> LoadedScript.Plan {
        let options = try ScriptOptions.parse([script.name] + words)
        return try LoadedScript.plan(ScriptSource(script), overrides: try options.overrides())
    }

    /// The lines of one part of the manual, without its label.
    private func lines(_ part: String, of script: ShippedScript) -> [String] {
        var isInside = false
        return script.manual.split(separator: "\n").compactMap { line in
            if !line.hasPrefix(" ") { isInside = line.hasPrefix("\(part):") }
            guard isInside else { return nil }
            return String(line.dropFirst(12).drop { $0 == " " })
        }
    }

    @Test func `every file of scripts faults and targets is inside the program, as it is`() {
        let files = ["scripts/faults", "scripts/targets"].flatMap {
            SourceTree.files(below: $0, endings: [".lua"])
        }
        #expect(files.map(\.path) == Self.all.map { "scripts/\($0.kind.rawValue)/\($0.name).lua" })
        for (file, script) in zip(files, Self.all) {
            #expect(file.text == script.text, "\(script.name): the program is older")
        }
    }

    @Test(arguments: all.map(\.name))
    func `each has a manual with all its parts`(name: String) throws {
        let script = try #require(ShippedScript.named(name))
        #expect(script.manual.hasPrefix("\(name).lua: \(script.summary)\n\nWhat:"))
        #expect((20...100).contains(script.summary.count), "\(script.summary)")
        let labels = script.manual.split(separator: "\n").dropFirst().compactMap { line in
            line.hasPrefix(" ") ? nil : line.prefix { $0 != ":" }
        }
        let expected = Self.parts.filter {
            switch $0 {
            case "Live": labels.contains("Live")
            case "Simulate": script.kind == .faults
            default: true
            }
        }
        #expect(labels.map(String.init) == expected)
        for line in script.text.split(separator: "\n") { #expect(line.count <= 120, "\(line)") }
    }

    @Test(arguments: all.map(\.name))
    func `each manual has the parameters there are, with their defaults`(name: String) throws {
        let script = try #require(ShippedScript.named(name))
        let written = lines("Parameters", of: script).compactMap { line in
            line.split(separator: " ").first.map(String.init).flatMap {
                $0.contains("=") ? $0 : nil
            }
        }
        let declared = try plan(script).parameters.map { "\($0.key)=\($0.plainText)" }
        #expect(written.sorted() == declared.sorted())
        if declared.isEmpty { #expect(lines("Parameters", of: script) == ["none"]) }
    }

    @Test(arguments: all.map(\.name))
    func `each loads as its example says, and simulates`(name: String) throws {
        let script = try #require(ShippedScript.named(name))
        let example = lines("Example", of: script).joined(separator: " ").split(separator: " ")
        #expect(example.prefix(3).map(String.init) == ["ublk-script", "add", name])
        #expect(example.contains { $0.hasPrefix("size=") })
        for words in [example.dropFirst(3).map(String.init), ["size=64M"]] {
            var simulation = Simulation()
            simulation.workload.requests = 3000
            let seed = words.contains { $0.hasPrefix("seed=") } ? [] : ["seed=1"]
            let report = try simulation.run(try plan(script, words + seed)).report
            #expect(report.scriptErrors.count == 0, "\(report.scriptErrors.texts)")
        }
    }

    @Test(arguments: all.map(\.name))
    func `each carries tests, and they pass`(name: String) throws {
        let source = ScriptSource(try #require(ShippedScript.named(name)))
        for seed in ["1", "2", "3"] {
            let setting = Setting(key: "seed", value: .string(seed), origin: "test")
            let outcomes = try ScriptTestRun(source, overrides: [setting]).run()
            #expect(!outcomes.isEmpty)
            #expect(outcomes.compactMap(\.failure) == [], "seed \(seed)")
        }
    }

    @Test func `a word is a file, else a shipped script`() throws {
        let scratch = ScratchDirectory()
        let own = scratch.write("faulty", "device { size = \"3M\" }")
        let shipped = try ScriptSource(named: "faulty") { _ in }
        #expect(shipped.isShipped && shipped.path == "faulty" && shipped.name == "faulty.lua")
        let file = try ScriptSource(named: own) { _ in }
        #expect(!file.isShipped && file.path == own && file.name == own)
        #expect(file.shortName == "faulty" && shipped.shortName == "faulty.lua")
        for word in ["faulty.lua", "faultier", "./faulty"] {
            #expect(throws: ConfigError.self, "\(word)") {
                try ScriptSource(named: word) { _ in }
            }
        }
    }
}
