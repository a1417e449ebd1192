import ArgumentParser
import Testing

@testable import UblkScript

/// `docs/json.md` against what is printed: the same fields, neither more nor fewer.
@Suite(.enabled(if: SourceTree.text(of: "docs/json.md") != nil, "the documents are not here"))
struct JSONDocumentTests {
    /// Any JSON, for its shape.
    private enum Shape: Decodable {
        case object([String: Shape])
        case array([Shape])
        case value

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let fields = try? container.decode([String: Shape].self) {
                self = .object(fields)
            } else if let elements = try? container.decode([Shape].self) {
                self = .array(elements)
            } else {
                self = .value
            }
        }

        /// Every field, as the document spells it.
        func paths(_ prefix: String = "") -> Set<String> {
            switch self {
            case .value: []
            case .array(let elements):
                elements.reduce(into: []) {
                    $0.formUnion($1.paths(prefix.isEmpty ? "" : prefix + "[]"))
                }
            case .object(let fields):
                fields.reduce(into: []) { paths, field in
                    let own = prefix == "counters" ? "*" : field.key
                    let path = prefix.isEmpty ? own : prefix + "." + own
                    paths.insert(path)
                    paths.formUnion(field.value.paths(path))
                }
            }
        }
    }

    /// The fields of a section: all, and those that are always there.
    private func documented(_ section: String) throws -> (all: Set<String>, always: Set<String>) {
        let text = try #require(SourceTree.text(of: "docs/json.md"))
        let lines = text.split(separator: "\n")
        let start = try #require(
            lines.firstIndex { $0 == "## \(section)" },
            "no section \(section)"
        )
        var all: Set<String> = []
        var always: Set<String> = []
        for line in lines[(start + 1)...].prefix(while: { !$0.hasPrefix("## ") })
        where line.hasPrefix("| `") {
            let cells = line.split(separator: "|", omittingEmptySubsequences: false)
            let names = cells[1].split(separator: ",").map {
                $0.filter { $0 != "`" && $0 != " " }
            }
            all.formUnion(names)
            if !cells[2].contains("maybe") { always.formUnion(names) }
        }
        return (all, always)
    }

    private func check(_ section: String, _ json: String) throws {
        let shape = try #require(JSON.decode(Shape.self, Array(json.utf8)), "\(json)")
        let (all, always) = try documented(section)
        let printed = shape.paths()
        #expect(printed.subtracting(all).isEmpty, "\(section): printed, but not documented")
        #expect(always.subtracting(printed).isEmpty, "\(section): documented, but not printed")
    }

    private let rule = RuleReport(line: 3, name: "bad", isOn: true, acted: 2)

    @Test func `ctl prints what is documented`() throws {
        let reports: [(String, ControlReport)] = [
            ("ctl rule", .rules([rule])),
            ("ctl ranges", .sets([RangesReport(name: "bad", ranges: 1, bytes: 512)])),
            ("ctl ranges list", .extents([ExtentReport(offset: 0, length: 512)], more: 0)),
            (
                "ctl held",
                .held([
                    HeldReport(
                        queue: 0,
                        tag: 1,
                        io: 2,
                        operation: "read",
                        offset: 0,
                        length: 512,
                        isPaused: false
                    )
                ])
            ),
            ("ctl mark", .mark("go", times: 1)), ("ctl state", .state("bad")),
            ("ctl seed", .seed(7)), ("ctl release", .released(3)),
        ]
        for (section, report) in reports { try check(section, JSON.text(report)) }
        #expect(JSON.text(ControlReport.nothing) == "{}")
        #expect(
            JSON.text(ControlReport.rules([rule]))
                == "[{\"acted\":2,\"isOn\":true,\"line\":3,\"name\":\"bad\"}]"
        )
    }

    @Test func `stats, list and wait print what is documented`() throws {
        let times = IOTimes()
        times.writer.add(0, nanoseconds: 5000, bytes: 4096)
        let statistics = DeviceStatistics(
            id: 0,
            path: "/dev/ublkb0",
            script: "faulty.lua",
            seed: 7,
            operations: DeviceStatistics.operations([(QueueCounters(), times)]),
            counters: DeviceStatistics.counters([QueueCounters()]),
            rules: [rule]
        )
        try check("stats", JSON.text([statistics]))
        let info = DeviceInfo(id: DeviceID(0), queues: 1, depth: 1, maxIOBytes: 4096, features: [])
        let plain = DeviceListing(info, id: DeviceID(0), record: nil)
        try check("list", JSON.text([plain]))
        var full = DeviceListing(info, id: DeviceID(0), record: nil, isRecordDamaged: true)
        full.sizeBytes = 1
        full.logicalBlockBytes = 512
        (full.script, full.backing, full.file, full.seed) = ("a.lua", "file", "a.img", 1)
        (full.faults, full.remark, full.isSilent) = ("off", "paused", true)
        (full.story, full.nodeProblem) = ("deleted", "no block device")
        (full.scriptErrors, full.backingErrors, full.drainedIOs, full.unsupportedIOs) = (1, 1, 1, 1)
        try check("list", JSON.text([full]))
        #expect(try documented("list").all == paths(JSON.text(full)))
        let report = WaitCommand.Report(
            what: "rule",
            name: "bad",
            count: 1,
            isReached: true,
            waitedNanoseconds: 1
        )
        try check("wait", JSON.text(report))
    }

    private func paths(_ json: String) -> Set<String> {
        JSON.decode(Shape.self, Array(json.utf8))?.paths() ?? []
    }

    @Test(.enabled(if: ProgramRun.program != nil, "ublk-script is not beside the test bundle"))
    func `commands without a device print what is documented`() throws {
        let scratch = ScratchDirectory()
        let failing = scratch.write(
            "failing.lua",
            """
            device { size = "1M" }
            rule { op = "read", error = "EIO", name = "bad" }
            test("fails", function() error("no") end)
            """
        )
        let warned = scratch.write(
            "warned.lua",
            """
            params { n = 1 }
            rule { op = "read", error = "EIO", name = "bad" }
            rule { op = "read", queue = 7, error = "EIO" }
            """
        )
        let runs: [(String, [String])] = [
            ("faults", ["faults"]), ("faults", ["faults", "error"]),
            ("faults", ["faults", "error", "--source"]),
            ("check", ["check", warned, "-f", "x.img"]),
            ("simulate", ["simulate", failing, "--ops", "200", "--seed", "1"]),
            ("simulate --test", ["simulate", failing, "--test"]),
            ("simulate --bench", ["simulate", failing, "--bench", "--ops", "100"]),
        ]
        for (section, words) in runs {
            let run = ProgramRun(words + ["--json"], in: scratch)
            let json = run.output.split(separator: "\n").last.map(String.init) ?? ""
            try check(section, json)
        }
    }

    @Test func `every command that prints takes --json and is documented`() throws {
        // What they print is one word or another command's.
        let silent = ["del", "stop", "reload", "serve", "ledger", "map"]
        for command in UblkScript.configuration.subcommands {
            let name = command.configuration.commandName ?? ""
            if silent.contains(name) || !command.configuration.shouldDisplay { continue }
            #expect(UblkScript.helpMessage(for: command).contains("--json"), "\(name)")
            if name != "ctl", name != "add" {
                #expect(try !documented(name).all.isEmpty, "\(name)")
            }
        }
    }
}
