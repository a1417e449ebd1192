import Testing

@testable import UblkScript

/// What a reload goes by, and what it may not change.
@Suite struct ReloadSettingsTests {
    @Test func `the settings of a reload are those of the device and the new ones`() throws {
        func settings(_ words: [String]) throws -> [Setting] {
            try words.map { try Setting(argument: $0) }
        }
        let running = try settings(["p=1", "size=1M", "p=2"])
        let own = ScriptSource(path: "a.lua", text: "")
        let shipped = ScriptSource(try #require(ShippedScript.named("error")))
        func text(_ list: [Setting]) -> [String] { list.map { "\($0.key)=\($0.plainText)" } }
        func merged(_ source: ScriptSource, isOther: Bool) throws -> ReloadSettings {
            ReloadSettings(
                source,
                isOther: isOther,
                running: running,
                new: try settings(["q=3"]),
                sizeBytes: 5
            )
        }
        let same = try merged(own, isOther: false)
        #expect(text(same.remembered) == ["size=1M", "p=2", "q=3"])
        #expect(text(same.planned) == ["p=1", "size=1M", "p=2", "q=3"])
        let other = try merged(shipped, isOther: true)
        #expect(text(other.remembered) == ["size=1M", "q=3"])
        #expect(text(other.planned) == ["size=1M", "size=5", "q=3"])
    }

    @Test(arguments: [
        ("device { size = \"32M\" }", "size", "the running device has 16M, 32M is asked for"),
        ("device { size = \"16M\", depth = 64 }", "depth", "128, 64"),
        ("device { size = \"16M\", cache = \"volatile\" }", "cache", "none"),
        ("device { size = \"16M\", seed = 5 }", "seed", "5"),
        ("device { size = \"16M\", data = \"user_copy\" }", "data", "auto, user_copy"),
        (
            "device { size = \"16M\", backing = \"null\", recovery = \"wait\" }", "backing",
            "null"
        ),
        ("device { size = \"16M\" } backing { size = \"1M\" }", "backing{}", "1 backings"),
    ])
    func `what the driver was told cannot be changed`(
        script: String,
        key: String,
        text: String
    ) throws {
        func config(_ script: String) throws -> DeviceConfig {
            try LoadedScript.plan(ScriptSource(path: "a.lua", text: script), usualSeed: 1).config
        }
        let running = try config("device { size = \"16M\" }")
        #expect(running.difference(from: running) == nil)
        let free = try config(
            "device { size = \"16M\", on_error = \"pass\", memory = \"16M\", budget = \"9ms\", ledger = \"all\" }"
        )
        #expect(free.difference(from: running) == nil)
        let difference = try config(script).difference(from: running)
        #expect(difference?.key == key)
        let message =
            "the running device has \(difference?.running ?? ""), \(difference?.wanted ?? "") is asked for"
        for part in text.split(separator: ", ") { #expect(message.contains(part)) }
    }
}
