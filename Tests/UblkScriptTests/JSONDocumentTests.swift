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
        /// The document's word for it.
        case value(String)

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let fields = try? container.decode([String: Shape].self) {
                self = .object(fields)
            } else if let elements = try? container.decode([Shape].self) {
                self = .array(elements)
            } else if (try? container.decode(Bool.self)) != nil {
                self = .value("boolean")
            } else if (try? container.decode(Double.self)) != nil {
                self = .value("number")
            } else {
                self = .value(container.decodeNil() ? "null" : "string")
            }
        }

        private var kind: String {
            switch self {
            case .object: "object"
            case .array: "array"
            case .value(let kind): kind
            }
        }

        /// Every field and its type, as the document spells them.
        func fields(_ prefix: String = "") -> Set<Field> {
            switch self {
            case .value: []
            case .array(let elements):
                elements.reduce(into: []) {
                    $0.formUnion($1.fields(prefix.isEmpty ? "" : prefix + "[]"))
                }
            case .object(let fields):
                fields.reduce(into: []) { found, field in
                    let own = prefix == "counters" ? "*" : field.key
                    let path = prefix.isEmpty ? own : prefix + "." + own
                    found.insert(Field(path: path, type: field.value.kind))
                    found.formUnion(field.value.fields(path))
                }
            }
        }
    }

    private struct Field: Hashable { let path, type: String }

    /// What holds a field: `rules[]` of `rules[].line`.
    private static func parent(of path: String) -> Substring {
        path[..<(path.lastIndex(of: ".") ?? path.startIndex)]
    }

    /// The fields of a section: all, and those that are always there.
    private func documented(_ section: String) throws -> (all: Set<Field>, always: Set<Field>) {
        var all: Set<Field> = []
        var always: Set<Field> = []
        for row in try rows(section) {
            let cells = row.split(separator: "|", omittingEmptySubsequences: false)
            let types = cells[2].split(separator: ",").map { $0.filter { $0 != " " } }
            let names = cells[1].split(separator: ",").map {
                $0.filter { $0 != "`" && $0 != " " }
            }
            let fields = names.map { Field(path: $0, type: types[0]) }
            all.formUnion(fields)
            if !types.contains("maybe") { always.formUnion(fields) }
        }
        return (all, always)
    }

    private func rows(_ section: String) throws -> [Substring] {
        let text = try #require(SourceTree.text(of: "docs/json.md"))
        let lines = text.split(separator: "\n")
        let start = try #require(
            lines.firstIndex { $0 == "## \(section)" },
            "no section \(section)"
        )
        return lines[(start + 1)...].prefix { !$0.hasPrefix("## ") }.filter { $0.hasPrefix("| `") }
    }

    private func check(_ section: String, _ json: String) throws {
        let shape = try #require(JSON.decode(Shape.self, Array(json.utf8)), "\(json)")
        let (all, always) = try documented(section)
        let printed = shape.fields()
        let new = printed.subtracting(all)
        #expect(new.isEmpty, "\(section): printed, but not documented: \(new)")
        // Of what is left out, or of an array that is empty, nothing is expected.
        let parents = Set(printed.map { Self.parent(of: $0.path) })
        let missing = always.filter {
            !printed.contains($0) && parents.contains(Self.parent(of: $0.path))
        }
        #expect(missing.isEmpty, "\(section): documented, but not printed: \(missing)")
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
        full.recordFormat = 3
        (full.recovery, full.nextStep) = ("wait", "ublk-script recover 0")
        (full.restarts, full.isShared, full.ownerUID) = (true, true, 1001)
        (full.scriptErrors, full.backingErrors, full.drainedIOs, full.unsupportedIOs) = (1, 1, 1, 1)
        (full.copyErrors, full.dataReason) = (1, "because")
        full.sharedMemory = "/proc/1/fd/10"
        full.details = details
        try check("list", JSON.text([full]))
        #expect(try documented("list").all == fields(JSON.text(full)))
        let report = WaitCommand.Report(
            what: "rule",
            name: "bad",
            count: 1,
            isReached: true,
            waitedNanoseconds: 1
        )
        try check("wait", JSON.text(report))
    }

    /// With everything that a device can have.
    private var details: DeviceDetails {
        let info = DeviceInfo(
            id: DeviceID(0),
            queues: 1,
            depth: 1,
            maxIOBytes: 4096,
            features: .userCopy
        )
        var details = DeviceDetails(info, id: DeviceID(0), record: nil)
        var params = DeviceParams(sizeBytes: 4096)
        params.discard = .init(granularityBytes: 512, maxBytes: 4096)
        params.writeZeroes = params.discard
        details.parameters = params
        (details.queues[0].thread, details.queues[0].cpus) = (1, "0-3")
        details.take(ServerStatus(lines: "queue 0 3 2 1"))
        (details.paths.record, details.paths.socket) = ("0.json", "0.sock")
        (details.paths.log, details.paths.script) = ("0.log", "0.lua")
        return details
    }

    private func fields(_ json: String) -> Set<Field> {
        JSON.decode(Shape.self, Array(json.utf8))?.fields() ?? []
    }

    /// The words in backquotes of the row that has `field`.
    private func words(_ section: String, _ field: String) throws -> Set<String> {
        let row = try #require(try rows(section).first { $0.contains("`\(field)`") })
        let parts = row.split(separator: "|")[2].split(
            separator: "`",
            omittingEmptySubsequences: false
        )
        return Set(parts.enumerated().filter { $0.offset % 2 == 1 }.map { String($0.element) })
    }

    @Test func `the words that a field can have are all documented`() throws {
        let states =
            (UInt16(0)...3).compactMap { DeviceState(rawValue: $0)?.name }
        #expect(try words("list", "state") == Set(states + ["DELETED"]))
        let modes = DeviceConfig.Recovery.allCases.filter { $0 != .off }.map(\.rawValue)
        #expect(try words("list", "recovery") == Set(modes))
        let counters = DeviceStatistics.counters([QueueCounters()]).keys
        #expect(try words("stats", "counters.*") == Set(counters))
        let operations = DeviceStatistics.operations([(QueueCounters(), IOTimes())])
        #expect(
            try words("stats", "operations[].operation") == Set(operations.map(\.operation))
        )
        #expect(try words("list", "data") == Set(DataMode.allCases.map(\.rawValue)))
        #expect(try words("check", "backing") == Set(["memory", "file", "null"]))
        #expect(try words("faults", "kind") == Set(ShippedScript.Kind.allCases.map(\.rawValue)))
    }

    @Test func `map, features and the ledger print what is documented`() throws {
        let file = MapCommand.MappedFile(
            file: "/mnt/a",
            extents: [.init(offset: 4096, length: 512, at: 0)]
        )
        try check("map", JSON.text([file]))
        try check("features", JSON.text(FeaturesCommand.Report([.userCopy])))
        let script = """
            rule { name = "slow", op = "read", p = 0.9, delay = "1ms", error = "EIO" }
            rule { op = "write", hang = "1ms" }
            function discard() return to(0) end
            function flush() error("no") end
            """
        var durable = SimulatedRequest.write(4096)
        durable.flags = .fua
        let result = try simulate(script, settings: ["cache": "volatile", "fua": "true"]) {
            $0.workload = Workload(
                Array(repeating: .read(0), count: 20)
                    + [durable, .discard(8192), SimulatedRequest(op: .flush)]
            )
        }
        let plan = try LoadedScript.plan(
            ScriptSource(path: "test.lua", text: script),
            overrides: [.test("size", "16M")]
        )
        let format = LedgerText(script: "a.lua", rules: plan.rules, seed: 1, isJSON: true)
        let records = result.ledger.read(from: 0, limit: .max).records
        let lines = records.map { format.line($0, queue: QueueID(0)) }
        for line in lines { try check("ledger", line) }
        let all = lines.reduce(into: Set<Field>()) { $0.formUnion(fields($1)) }
        let missing = try documented("ledger").all.subtracting(all)
        #expect(missing.isEmpty, "\(missing)")
        let ledger = Ledger(queue: QueueID(0), capacity: 1)
        for record in records { ledger.append(record) }
        try check("ledger, another server", LedgerText.recoveredLine)
        try check("ledger, what was overwritten", format.overwrittenLine(3, [ledger]))
    }

    @Test func `a trace prints what is documented`() throws {
        var command = TraceStep(t: 0, step: .addDevice)
        command.ago = 7
        let script = #"rule { op = "read", delay = "1ms", error = "EIO" }"#
        var durable = SimulatedRequest.write(4096)
        durable.flags = .fua
        let result = try simulate(script, settings: ["cache": "volatile", "fua": "true"]) {
            $0.keepsTrace = true
            $0.workload = Workload([.read(0), durable])
        }
        let plan = try LoadedScript.plan(
            ScriptSource(path: "test.lua", text: script),
            overrides: [.test("size", "16M")]
        )
        let format = LedgerText(script: "a.lua", rules: plan.rules, seed: 1)
        var reader = TraceReader()
        let steps =
            reader.read(
                result.queues.compactMap(\.trace),
                [result.ledger],
                format,
                limit: .max
            ).steps + [TraceStep(t: 1, step: .lost, count: 3), command]
        for step in steps { try check("trace", JSON.text(step)) }
        let all = steps.reduce(into: Set<Field>()) { $0.formUnion(fields(JSON.text($1))) }
        let missing = try documented("trace").all.subtracting(all)
        #expect(missing.isEmpty, "\(missing)")
        #expect(try words("trace", "step") == Set(TraceStep.Kind.allCases.map(\.rawValue)))
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
        let suggesting = scratch.write(
            "suggesting.lua",
            "-- A fault.\n-- Simulate: --ops 50 size=1M\nfunction read() error('no') end"
        )
        let workload = scratch.write("workload", "read 0 4K\n")
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
            ("simulate", ["simulate", suggesting]),
            ("simulate", ["simulate", failing, "--workload", workload, "size=2M"]),
            ("simulate", ["simulate", failing, "--time", "1s", "--rate", "9", "backing=null"]),
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
        let silent = ["del", "stop", "quiesce", "reload", "serve"]
        for command in UblkScript.configuration.subcommands {
            let name = command.configuration.commandName ?? ""
            if silent.contains(name) || !command.configuration.shouldDisplay { continue }
            #expect(UblkScript.helpMessage(for: command).contains("--json"), "\(name)")
            if !["ctl", "add", "recover"].contains(name) {
                #expect(try !documented(name).all.isEmpty, "\(name)")
            }
        }
    }
}
