import ArgumentParser

/// `ctl [ID] WORD...`: sends a request to a running device.
struct ControlScriptCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ctl",
        abstract: "Talk to a running script.",
        discussion: """
            The device comes first; it need not be named when there is only one.

            Built-in words:
            \(ControlWord.helpText)
            Every other word goes to the script's function ctl(word, ...); words \
            that begin with a - come after --, as in: ctl 0 -- temp -5

            With - in place of words each line of standard input is said, its words \
            between blanks, until one fails.
            """
    )

    @Flag(help: "Print the answer as JSON, see docs/json.md.")
    var json = false

    @OptionGroup var option: DeviceNumberOption

    @Argument(
        help: ArgumentHelp(
            "The device (0, ublkb0, /dev/ublkb0 or /dev/ublkc0), and what to say.",
            valueName: "device> <word"
        ),
        completion: .custom { words, index, _ in
            (words.count <= index + 1
                ? StateDirectory.standard.recordedIDs().map(\.description) : [])
                + ControlWord.all.map(\.word)
        }
    )
    var words: [String] = []

    func run() throws {
        let (id, words) = try DeviceArgument.first(of: self.words, option)
        guard !words.isEmpty else {
            throw ValidationError("what to say? It takes words, for example: stats")
        }
        let server = try ServerClient(id)
        guard words == ["-"] else { return try say(words, server) }
        var number = 0
        while let line = readLine() {
            number += 1
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            guard !words.isEmpty else { continue }
            do { try say(words, server) } catch let failure as Failure {
                throw Failure("line \(number): \(failure.text)")
            }
            try Output.flush()
        }
    }

    private func say(_ words: [String], _ server: ServerClient) throws {
        if words[0] == "reload" {
            try ReloadCommand.ask(server, Array(words.dropFirst()))
            if json { Output.line("{}") }
            return
        }
        if words == ["stats"] {
            let statistics = try StatsCommand.ask(server)
            if json { return Output.line(JSON.text([statistics])) }
            return Output.record(StatisticsText(statistics).text)
        }
        if json { return Output.line(try server.ask(.controlAsJSON, words)) }
        let text =
            ControlWord.hasRows(words)
            ? try Self.table(of: words[0], try server.ask(.controlAsJSON, words), server)
            : try server.ask(.control, words)
        if !text.isEmpty { Output.record(text) }
    }

    private static func table(of word: String, _ json: String, _ server: ServerClient) throws
        -> String
    {
        func rows<Row: Decodable>(_ kind: Row.Type) throws -> [Row] {
            guard let rows = JSON.decode([Row].self, Array(json.utf8)) else {
                throw server.isOfAnotherVersion
            }
            return rows
        }
        switch word {
        case "rule":
            let rules = try rows(RuleReport.self)
            return rules.isEmpty ? "" : StatisticsText.table(rules).text
        case "held":
            var table = TextTable([.left, .right, .left, .left])
            for io in try rows(HeldReport.self) {
                table.add([
                    "\(io.queue):\(io.tag)", "io \(io.io)",
                    "\(io.operation) \(io.offset)+\(io.length)", io.isPaused ? "paused" : "",
                ])
            }
            return table.text
        default:
            var table = TextTable([.left, .right, .right], heading: ["set", "ranges", "bytes"])
            let sets = try rows(RangesReport.self)
            for set in sets { table.add([set.name, "\(set.ranges)", "\(set.bytes)"]) }
            return sets.isEmpty ? "" : table.text
        }
    }
}
