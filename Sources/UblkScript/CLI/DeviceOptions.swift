import ArgumentParser

/// The script, and the settings of the command line for its parameters and its `device{}`.
///
/// Shared by `add`, `check`, `simulate` and the server.
struct ScriptOptions: ParsableArguments {
    @Argument(
        help: ArgumentHelp(
            "The Lua script: a file, a name from 'ublk-script faults', or - for standard input.",
            valueName: "script"
        ),
        completion: .custom { _, _, prefix in ScriptCompletion.words(prefix) }
    )
    var scriptWord: String?

    @Argument(
        help: ArgumentHelp(
            "Parameters of the script, and keys of device{}, to set, as in p=0.1 size=1G queues=2.",
            valueName: "key=value"
        )
    )
    var settingWords: [String] = []

    @Option(
        name: [.customShort("e"), .customLong("execute")],
        help: ArgumentHelp(
            "The script itself in place of a file, as in -e 'rule { error = \"EIO\" }'; several are its lines.",
            valueName: "lua"
        )
    )
    var execute: [String] = []

    @Option(
        name: [.customShort("n"), .long],
        help: "The device's number (default: the next free one)."
    )
    var number: String?

    @Option(name: [.customShort("q"), .long], help: "Hardware queues, 1 to the number of CPUs.")
    var queues: String?

    @Option(name: [.customShort("d"), .long], help: "Tags per queue, 1 to 4096.")
    var depth: String?

    @Option(
        name: [.customShort("f"), .long],
        help: "Backing file or block device.",
        completion: .file()
    )
    var file: String?

    func validate() throws {
        guard scriptWord != nil || !execute.isEmpty else {
            throw ValidationError("Missing expected argument '<script>'")
        }
    }

    /// The settings: all words but the script, or all words when the script is given with -e.
    var settings: [String] {
        (execute.isEmpty ? [] : scriptWord.map { [$0] } ?? []) + settingWords
    }

    /// Reads the script; call once, because a pipe can be read only once.
    func source() throws(ConfigError) -> ScriptSource {
        guard execute.isEmpty else { return ScriptSource(lines: execute) }
        return try ScriptSource(named: scriptWord ?? "", whenSilent: InputFile.tellOfSilence)
    }

    func id() throws -> DeviceID? {
        try number.map(DeviceArgument.parse)
    }

    /// The settings of the command line, with their origins for error messages.
    func overrides() throws -> [Setting] {
        var overrides: [Setting] = []
        for text in settings {
            do throws(ConfigError) { overrides.append(try Setting(argument: text)) } catch {
                throw ValidationError("\"\(text)\" is no setting: key=value is expected")
            }
        }
        let options = [("queues", "q", queues), ("depth", "d", depth), ("file", "f", file)]
        for (key, short, value) in options {
            guard let value else { continue }
            overrides.append(
                Setting(key: key, value: .string(value), origin: "option -\(short)/--\(key)")
            )
        }
        do throws(ConfigError) { try Setting.refuseTwice(overrides) } catch {
            throw ValidationError("\(error)")
        }
        return overrides
    }

    /// Refuses more queues than CPUs, as the driver would silently grant fewer.
    func checkQueues(_ overrides: [Setting]) throws {
        guard let setting = overrides.first(where: { $0.key == "queues" }),
            let count = Int(setting.plainText), count > SystemCall.cpus, count <= 4096
        else { return }
        throw Failure(
            setting.refused(
                "1 to \(SystemCall.cpus), at most one for each CPU of this machine,"
            )
        )
    }

    /// The settings as words of a command line, for the server process and its record.
    func settingsAsWords() -> [String] {
        var words = settings
        for (name, value) in [
            ("--number", number), ("--queues", queues), ("--depth", depth), ("--file", file),
        ] {
            if let value { words += [name + "=" + value] }
        }
        return words
    }
}

/// The ledger file of `add`; shared with the server it starts.
struct LedgerFileOption: ParsableArguments {
    @Option(
        name: .customLong("ledger"),
        help: ArgumentHelp(
            "Also write the ledger to a new file, as JSON lines.",
            valueName: "file"
        ),
        completion: .file()
    )
    var path: String?

    func validate() throws {
        if path?.isEmpty == true {
            throw ValidationError("--ledger: the name of a file is expected")
        }
    }

    func words() -> [String] { path.map { ["--ledger=" + $0] } ?? [] }
}

/// `--restart`: another server is started when one dies; shared with the server.
struct RestartOption: ParsableArguments {
    @Flag(
        help:
            "When the server dies, start another one, as recover does; after 5 quick deaths no more. Needs recovery=..."
    )
    var restart = false

    func words() -> [String] { restart ? ["--restart"] : [] }
}
