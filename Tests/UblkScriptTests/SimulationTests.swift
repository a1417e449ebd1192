import Testing

@testable import UblkScript

/// Runs `script` in the simulator, on a device of 16 MiB unless it says otherwise; and, unless it asks for a data mode,
/// a second time in one of the modes in which the queue works otherwise, or in each (UBLK_TEST_SLOW=1): with one
/// outcome.
func simulate(
    _ script: String,
    seed: UInt64 = 1,
    settings: [String: String] = [:],
    _ change: (inout Simulation) -> Void = { _ in }
) throws -> Simulation.Result {
    var overrides = [Setting(key: "seed", value: .integer(Int64(seed)), origin: "test")]
    for (key, value) in settings.merging(["size": "16M"], uniquingKeysWith: { given, _ in given }) {
        overrides.append(Setting(key: key, value: .string(value), origin: "test"))
    }
    let source = ScriptSource(path: "test.lua", text: script)
    var simulation = Simulation()
    simulation.workload.requests = 5000
    simulation.keepsFinished = true
    change(&simulation)
    let result = try simulation.run(try LoadedScript.plan(source, overrides: overrides))
    guard settings["data"] == nil, simulation.canBeRepeated, result.report.scriptErrors.count == 0
    else { return result }
    for mode in TestHost.runsSlowTests ? otherModes : [otherMode(script, settings)] {
        let setting = Setting(key: "data", value: .string(mode.rawValue), origin: "test")
        let plan = try LoadedScript.plan(source, overrides: overrides + [setting])
        let other = try simulation.run(plan)
        #expect(result.report == other.report, "with data = \"\(mode.rawValue)\"")
        #expect(result.finished == other.finished, "with data = \"\(mode.rawValue)\"")
        #expect(result.ledgerLines == other.ledgerLines, "with data = \"\(mode.rawValue)\"")
    }
    return result
}

/// Those in which the queue has the data copied or lent; in the others it sees no difference.
private let otherModes = DataMode.allCases.filter(\.serverCopies)

/// By chance, and always the same one for a test: FNV-1a of what it runs.
private func otherMode(_ script: String, _ settings: [String: String]) -> DataMode {
    let words = [script] + settings.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }
    let hash = words.joined(separator: "\n").utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) {
        ($0 ^ UInt64($1)) &* 0x100_0000_01b3
    }
    return otherModes[Int(hash % UInt64(otherModes.count))]
}

extension Simulation {
    /// Nothing outside is told of it or tells it something, and it does not last.
    fileprivate var canBeRepeated: Bool {
        interventions.isEmpty && observer == nil && logFD < 0 && workload.requests <= 100_000
    }
}

/// A run that somebody looks at.
@Suite struct SimulationObserverTests {
    @Test func `a run that is interrupted tells what there is so far`() throws {
        let result = try simulate("rule { nth = 1, error = \"EIO\" }") {
            $0.workload.requests = 10_000_000
            $0.keepsFinished = false
            $0.observer = {
                TestHost.sleep(milliseconds: 1)
                return $0 > 0
            }
        }
        #expect(result.report.end == .interrupted)
        #expect(result.report.requestCount > 0 && result.report.errors.map(\.name) == ["EIO"])
        #expect(SimulationText(result.report).text.contains("early: interrupted; "))
    }
}

extension SimulatedRequest {
    static func read(_ offset: UInt64, _ length: UInt64 = 4096) -> Self {
        Self(op: .read, offsetBytes: offset, lengthBytes: length)
    }
    static func write(_ offset: UInt64, _ length: UInt64 = 4096) -> Self {
        Self(op: .write, offsetBytes: offset, lengthBytes: length)
    }
    static func discard(_ offset: UInt64, _ length: UInt64 = 4096) -> Self {
        Self(op: .discard, offsetBytes: offset, lengthBytes: length)
    }
    static func writeZeroes(_ offset: UInt64, _ length: UInt64 = 4096) -> Self {
        Self(op: .writeZeroes, offsetBytes: offset, lengthBytes: length)
    }
    static let flush = Self(op: .flush)
}

/// Of a device with one queue.
extension Simulation.Result {
    var ledger: Ledger { queues[0].ledger }
    var counters: QueueCounters { queues[0].counters }
    var times: IOTimes { queues[0].times }

    /// The errno names of the requests in the order they ended, "" for success.
    var outcomes: [String] {
        finished.map { if case .failed(let errno) = $0.outcome { errno.name } else { "" } }
    }

    /// What the queues noted, as people read it.
    var ledgerLines: [String] {
        let text = LedgerText(script: "test.lua", rules: [], seed: 1)
        return queues.flatMap { queue in
            queue.ledger.read(from: 0, limit: .max).records.map {
                text.line($0, queue: queue.ledger.queue)
            }
        }
    }

    func action(_ name: String) -> UInt64 {
        report.actions.first { $0.name == name }?.count ?? 0
    }
}

@Suite struct SimulationTests {
    static let faulty = """
        local bad = ranges("bad"):add("1M", "256K")
        rule { op = "read", range = bad, error = "ENODATA" }
        rule { op = "write", range = bad, heal = true }
        rule { op = "write", p = 0.01, delay = "3ms" }
        function flush() if random() < 0.5 then return delay("1ms") end end
        """

    @Test(
        arguments: [
            (1, ["backing": "memory", "cache": "volatile"]),
            (20_261_121, ["backing": "memory", "cache": "volatile"]),
            (3, ["file": "never-made"]),
        ] as [(UInt64, [String: String])]
    )
    func `data survives thousands of random requests`(
        seed: UInt64,
        settings: [String: String]
    ) throws {
        let requests = TestHost.runsSlowTests ? 100_000 : 15_000
        let result = try simulate("", seed: seed, settings: settings) {
            $0.workload.requests = requests
            $0.workload.blockBytesMax = 8192
            $0.keepsFinished = false
        }
        let data = try #require(result.report.data)
        #expect(result.report.requestCount == UInt64(requests), "seed \(seed)")
        #expect(data.reads > requests / 5 * 2, "seed \(seed)")
        #expect(data.differing == 0, "seed \(seed): \(data)")
        #expect(result.report.errors == [], "seed \(seed)")
        #expect(result.report.requests.map(\.name).contains("flush"))
    }

    @Test func `small blocks survive, too`() throws {
        let result = try simulate("", settings: ["size": "1M"]) {
            $0.workload.blockBytes = 512
            $0.workload.blockBytesMax = 8192
        }
        #expect(result.report.data?.differing == 0)
        #expect(result.report.data?.reads ?? 0 > 2000)
    }

    @Test func `the same seed gives the same run, another seed another one`() throws {
        let first = try simulate(Self.faulty, seed: 7, settings: ["cache": "volatile"])
        let again = try simulate(Self.faulty, seed: 7, settings: ["cache": "volatile"])
        let other = try simulate(Self.faulty, seed: 8, settings: ["cache": "volatile"])
        #expect(first.report == again.report)
        #expect(first.finished == again.finished)
        #expect(first.report != other.report)
        #expect(first.finished != other.finished)
        #expect(first.report.rules.allSatisfy { $0.acted > 0 })
    }

    @Test func `a file is simulated in memory and never made`() throws {
        let result = try simulate("", settings: ["file": "/nonexistent/disk.img"])
        #expect(result.report.backing == "file")
        #expect(result.report.data?.differing == 0)
    }

    @Test func `a device as large as its file is simulated with 1G`() throws {
        let source = ScriptSource(
            path: "t.lua",
            text: "device { file = \"/nonexistent/disk.img\" }"
        )
        var simulation = Simulation()
        simulation.workload.requests = 100
        let result = try simulation.run(try LoadedScript.plan(source))
        #expect(result.report.sizeBytes == 1 << 30)
    }

    @Test func `a write that is dropped is read as older data`() throws {
        let result = try simulate("rule { op = \"write\", p = 0.05, drop = true }") {
            $0.workload.requests = 20_000
        }
        let data = try #require(result.report.data)
        #expect(result.action("dropped") > 100)
        #expect(data.stale > 0)
        #expect(data.foreign == 0 && data.torn == 0)
        #expect(result.report.errors == [])
    }

    @Test func `a dropped write is seen by the read after it`() throws {
        let result = try simulate("rule { op = \"write\", nth = 2, drop = true }") {
            $0.workload = Workload([.write(0), .read(0), .write(0), .read(0), .write(0), .read(0)])
        }
        let data = try #require(result.report.data)
        #expect(data.blocks == 24 && data.stale == 8 && data.differing == 8)
    }

    @Test func `a zeroed read, a zeroed write and a redirected read differ as they should`() throws
    {
        let result = try simulate(
            """
            function read(io, offset) if offset == 4096 then return zero() end
              if offset == 8192 then return to(0) end end
            function write(io, offset) if offset == 12288 then return zero() end end
            """
        ) {
            $0.workload = Workload([
                .write(0), .write(4096), .write(8192), .write(12288),
                .read(0), .read(4096), .read(8192), .read(12288),
            ])
        }
        let data = try #require(result.report.data)
        #expect(data.zeroes == 16 && data.foreign == 8 && data.differing == 24)
        #expect(result.action("zeroed") == 2 && result.action("redirected") == 1)
    }

    @Test func `a null backing keeps nothing and is not compared`() throws {
        #expect(try simulate("", settings: ["backing": "null"]).report.data == nil)
    }

    @Test func `a device gets only requests that it offers`() throws {
        let some = try simulate("", settings: ["discard": "false", "write_zeroes": "false"])
        #expect(some.report.requests.map(\.name) == ["read", "write"])
        let readOnly = try simulate("", settings: ["read_only": "true"])
        #expect(readOnly.report.requests.map(\.name) == ["read"])
    }

    @Test func `requests that do not fit the device are refused`() {
        #expect(throws: ConfigError.self) { try simulate("") { $0.workload.blockBytes = 1000 } }
        #expect(throws: ConfigError.self) {
            try simulate("") { $0.workload.blockBytesMax = 1 << 20 }
        }
        #expect(throws: ConfigError.self) { try simulate("", settings: ["size": "2K"]) }
    }

    @Test func `the latency of a request is in the report`() throws {
        let result = try simulate("rule { op = \"read\", delay = \"10ms\" }") {
            $0.workload.weights = [.read: 1]
        }
        let latency = result.report.latency
        #expect(latency.maxNanoseconds == 10_000_000)
        #expect((10_000_000...11_250_000).contains(latency.medianNanoseconds))
    }

    @Test func `latencies are counted to an eighth of their size`() {
        let times: [UInt64] = [0, 1, 7, 8, 9, 15, 16, 1000, 123_456_789, 1 << 62, .max]
        for time in times {
            var counts = LatencyCounts()
            counts.add(time)
            counts.add(.max)
            let found = counts.nanoseconds(share: 0.5)
            #expect(found >= time && found - time <= time / 8, "\(time) became \(found)")
        }
    }

    @Test func `no IO goes over the edge of a chunk, and a sequential one goes on`() throws {
        let result = try simulate("", settings: ["chunk_size": "16K", "max_io": "64K"]) {
            $0.workload.pattern = .sequential
            $0.workload.weights = [.read: 1]
            $0.workload.blockBytes = 65536
            $0.workload.blockBytesMax = 65536
            $0.workload.requests = 64
            $0.workload.depth = 1
        }
        let reads = result.finished.map(\.request)
        #expect(reads.allSatisfy { $0.offsetBytes % 16384 + $0.lengthBytes <= 16384 })
        #expect(Set(reads.map(\.offsetBytes)).count == 64)
    }
}
