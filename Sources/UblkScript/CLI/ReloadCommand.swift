import ArgumentParser

/// `reload ID [SCRIPT] [key=value...]`: replaces the script of a running device.
struct ReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Give a running device another script, or its own again.",
        discussion: """
            Without SCRIPT the device's own is read again, with the settings it was added with. The new script takes over \
            between two IOs; when it cannot be loaded, the one that runs goes on. What is held or delayed stays \
            so. Sets of ranges, counters, dicts and buckets that have names keep what is in them.
            """
    )

    @OptionGroup var option: DeviceNumberOption

    @Option(
        name: [.customShort("e"), .customLong("execute")],
        help: ArgumentHelp("The script itself, as for add.", valueName: "lua")
    )
    var execute: [String] = []

    @Argument(
        help: ArgumentHelp(
            "The device (a sole one need not be named), the script (as for add), and settings.",
            valueName: "device> <script> <key=value"
        ),
        completion: .custom { words, index, prefix in
            (words.count <= index + 1
                ? StateDirectory.standard.recordedIDs().map(\.description) : [])
                + ScriptCompletion.words(prefix)
        }
    )
    var words: [String] = []

    func run() throws {
        let (id, words) = try DeviceArgument.first(of: self.words, option)
        try Self.ask(try ServerClient(id), words, execute: execute)
    }

    /// Loads the script here, then sends it to the server.
    ///
    /// - Parameter words: the script, if any, and settings, as on the command line.
    static func ask(
        _ server: ServerClient,
        _ words: [String],
        execute: [String] = []
    ) throws {
        var settings = words
        let isNamed = execute.isEmpty && words.first.map { !$0.contains("=") } == true
        for word in words.dropFirst(isNamed ? 1 : 0) where !word.contains("=") || word.first == "="
        {
            throw ValidationError("\"\(word)\" is no setting: key=value is expected")
        }
        let source: ScriptSource
        var isOther = true
        do {
            if !execute.isEmpty {
                source = ScriptSource(lines: execute)
            } else if isNamed {
                source = try ScriptSource(
                    named: settings.removeFirst(),
                    whenSilent: InputFile.tellOfSilence
                )
            } else {
                source = try own(server)
                isOther = false
            }
            try check(source, isOther, server.record, settings)
        } catch { throw Failure(error) }
        let words = [isOther ? "other" : "same"] + source.asWords + settings
        _ = try server.ask(.reload, words, seconds: 120)
    }

    /// The device's own script, read again.
    private static func own(_ server: ServerClient) throws -> ScriptSource {
        let (id, record) = (server.id, server.record)
        switch record.origin {
        case .text:
            throw Failure(
                """
                the script of device \(id) came from \(record.script), and cannot be read again.
                Name a new one: ublk-script reload \(id) SCRIPT
                """
            )
        case .shipped:
            guard let shipped = ShippedScript.named(record.script) else {
                throw Failure("this program has no script \"\(record.script)\" any more")
            }
            return ScriptSource(shipped)
        case .file, nil:
            return try ScriptSource(named: record.script, whenSilent: InputFile.tellOfSilence)
        }
    }

    /// Loads the script in this process first, so that a script whose load never ends does not reach the server.
    private static func check(
        _ source: ScriptSource,
        _ isOther: Bool,
        _ record: DeviceRecord,
        _ words: [String]
    ) throws {
        var source = source
        source.directory = record.directory ?? source.directory
        let running = try ScriptOptions.parse(["script"] + record.settings).overrides()
        let settings = ReloadSettings(
            source,
            isOther: isOther,
            running: running,
            new: try Setting.arguments(words),
            sizeBytes: record.sizeBytes
        )
        _ = try LoadedScript.plan(source, overrides: settings.planned, usualSeed: record.seed)
    }
}
