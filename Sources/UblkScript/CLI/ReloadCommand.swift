import ArgumentParser

/// `reload ID [SCRIPT] [key=value...]`: another script for a running device.
struct ReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Give a running device another script, or its own again.",
        discussion: """
            Without SCRIPT the device's own is read again, with the settings it was added with. The new script takes over
            between two IOs; when it cannot be loaded, the one that runs goes on. What is held or delayed stays
            so. Sets of ranges, counters, dicts and buckets that have names keep what is in them.
            """
    )

    @Argument(help: "The device: 0, /dev/ublkb0 or /dev/ublkc0.")
    var device: String

    @Argument(
        help: ArgumentHelp(
            "The script (a file, or a name from 'ublk-script faults'), and settings as for add.",
            valueName: "script] [key=value"
        )
    )
    var words: [String] = []

    func run() throws {
        let id = try DeviceArgument.parse(device)
        _ = try Self.ask(id, try Removal.ownRecord(id), words)
    }

    /// - Parameter words: as on the command line.
    static func ask(_ id: DeviceID, _ record: DeviceRecord, _ words: [String]) throws -> String {
        var settings = words
        var script = ""
        if let first = words.first, !first.contains("=") {
            script = try path(first)
            settings.removeFirst()
        }
        do { try check(script, record, settings) } catch { throw Failure(error) }
        return try Removal.ask(["reload", script] + settings, id, record, seconds: 120)
    }

    /// Loads the script here first: what never ends must not end up in the server.
    private static func check(
        _ script: String,
        _ record: DeviceRecord,
        _ words: [String]
    ) throws {
        var source = try ScriptSource(named: script.isEmpty ? record.script : script)
        source.directory = record.directory ?? source.directory
        let running = try ScriptOptions.parse([record.script] + record.settings).overrides()
        let settings = ReloadSettings(
            source,
            isOther: !script.isEmpty,
            running: running,
            new: try Setting.arguments(words),
            sizeBytes: record.sizeBytes
        )
        _ = try LoadedScript.plan(source, overrides: settings.planned, usualSeed: record.seed)
    }

    /// The server has another working directory.
    private static func path(_ word: String) throws -> String {
        do throws(ConfigError) {
            let source = try ScriptSource(named: word)
            return source.isShipped ? source.path : AbsolutePath.of(source.path)
        } catch { throw Failure("\(error)") }
    }
}
