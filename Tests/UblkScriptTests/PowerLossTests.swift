import SystemPackage
import Testing

@testable import UblkScript

/// Data that a flush or FUA made durable, in runs whose power fails at the end.
@Suite struct PowerLossTests {
    private func run(
        _ script: String,
        seed: UInt64 = 1,
        settings: [String: String] = [:],
        _ change: (inout Simulation) -> Void = { _ in }
    ) throws -> Simulation.Result {
        let settings = settings.merging(["cache": "volatile"]) { given, _ in given }
        return try simulate(script, seed: seed, settings: settings) {
            $0.readsBack = true
            $0.workload.requests = 3000
            $0.workload.weights = [.read: 20, .write: 60, .flush: 5, .discard: 5, .writeZeroes: 10]
            change(&$0)
        }
    }

    private static let memory = [String: String]()
    private static let file = ["file": "/never-made"]

    /// A write that is flushed, one that is not, and a read of both.
    private static func short(_ simulation: inout Simulation) {
        simulation.workload = Workload([
            .write(0), .flush, .write(8192), .read(0), .read(8192),
        ])
    }

    @Test(arguments: [memory, file, ["fua": "true"], ["fua": "true", "file": "/never-made"]])
    func `a disk that keeps its promises loses nothing that it promised`(
        settings: [String: String]
    ) throws {
        for seed in 1...(TestHost.runsSlowTests ? 8 : 2) as ClosedRange<UInt64> {
            let result = try run("", seed: seed, settings: settings) {
                $0.workload.blockBytesMax = 16384
            }
            let report = result.report
            #expect(report.powerLoss == nil && report.problem([]) == nil, "seed \(seed)")
            #expect(report.readBack?.differing == 0, "seed \(seed)")
        }
    }

    @Test(arguments: [memory, file])
    func `a flush that is lost is told by what the power takes`(settings: [String: String]) throws {
        let lost = try run("rule { op = \"flush\", drop = true }", settings: settings, Self.short)
        #expect(lost.report.readBack?.differing == 0)
        // Of the first write only; nobody was promised the other.
        #expect(lost.report.powerLoss?.zeroes == 8 && lost.report.powerLoss?.differing == 8)
        #expect(
            lost.report.problem([])?.hasPrefix("8 blocks differ from what was made durable") == true
        )
        #expect(lost.report.problem([.data]) == nil)
        let text = SimulationText(lost.report).text
        let line =
            "power     8 blocks lost that a flush or FUA had made durable: 8 zeroes"
        #expect(text.contains(line), "\(text)")
        let kept = try run("", settings: settings, Self.short)
        #expect(kept.report.powerLoss == nil)
        #expect(!SimulationText(kept.report).text.contains("power"))
    }

    @Test(arguments: ["function flush() return done() end", "function flush() return drop() end"])
    func `a handler that answers a flush without doing it loses data, too`(script: String) throws {
        #expect(try run(script, Self.short).report.powerLoss?.differing == 8)
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `one lost flush of many is found unless a later one makes up for it`(seed: UInt64) throws {
        let often = try run("rule { op = \"flush\", p = 0.9, drop = true }", seed: seed)
        #expect((often.report.powerLoss?.differing ?? 0) > 0, "seed \(seed)")
        // The last flush is a good one: it flushes everything.
        let made = try run("rule { op = \"flush\", nth = 1, drop = true }", seed: seed)
        #expect(made.action("dropped") == 1 && made.report.powerLoss == nil, "seed \(seed)")
    }

    @Test(arguments: [memory, file])
    func `FUA that is ignored is told`(settings: [String: String]) throws {
        var durable = SimulatedRequest.write(0)
        durable.flags = .fua
        let settings = settings.merging(["fua": "true"]) { given, _ in given }
        func lost(_ script: String) throws -> Int? {
            try run(script, settings: settings) {
                $0.workload = Workload([.write(0), durable, .write(0), .write(4096)])
            }.report.powerLoss?.differing
        }
        #expect(try lost("") == nil)
        #expect(try lost("rule { op = \"write\", ignore_fua = true }") == 8)
        #expect(try lost("function write(io) if io.fua then return ignore_fua() end end") == 8)
    }

    @Test func `a flush that fails promises nothing`() throws {
        for script in [
            "rule { op = \"flush\", error = \"EIO\" }", "function flush() return fail(\"EIO\") end",
        ] {
            #expect(try run(script).report.powerLoss == nil)
        }
        let broken = try run("", settings: Self.file) { $0.faults.failing = [.sync: .ioError] }
        #expect(broken.report.errors.map(\.name) == ["EIO"] && broken.report.powerLoss == nil)
    }

    @Test func `what was lost before is not told again`() throws {
        let result = try run("rule { op = \"write\", nth = 1, drop = true }") {
            $0.workload = Workload([.write(0), .flush, .write(4096)])
        }
        #expect(result.report.readBack?.differing == 8 && result.report.powerLoss == nil)
    }

    @Test func `a device without a cache has nothing to lose`() throws {
        let script = "rule { op = \"flush\", drop = true }"
        #expect(try run(script, settings: ["cache": "none"]).report.powerLoss == nil)
    }

    @Test func `where a script says where data is, its map would be lost as well`() throws {
        let result = try run(
            "function write(io, o) return to(o) end rule { op = \"flush\", drop = true }",
            Self.short
        )
        #expect(result.action("redirected") == 2 && result.report.powerLoss == nil)
    }

    @Test func `several queues lose what none has flushed`() throws {
        let settings = ["queues": "2"]
        #expect(try run("", settings: settings).report.powerLoss == nil)
        let lost = try run("rule { op = \"flush\", drop = true }", settings: settings)
        #expect((lost.report.powerLoss?.differing ?? 0) > 100)
    }

    // MARK: The image

    @Test func `an image is as it was at the last flush, but for what is durable or cleared`()
        throws
    {
        let memory = try MemoryStore(sizeBytes: 3 * 4096 + 512)
        let image = VolatileImage(memory.view)
        func write(_ offset: UInt64, _ byte: UInt8, _ count: Int, isDurable: Bool = false) {
            var data = [UInt8](repeating: byte, count: count)
            unsafe data.withUnsafeMutableBytes { data in
                guard let first = data.baseAddress else { return }
                unsafe image.willWrite(
                    at: offset,
                    UnsafeRawBufferPointer(data),
                    isDurable: isDurable
                )
                unsafe memory.view.write(at: offset, length: UInt64(count), from: first)
            }
        }
        func byte(_ offset: UInt64) -> UInt8 {
            var byte: UInt8 = 0
            unsafe memory.view.read(at: offset, length: 1, into: &byte)
            return byte
        }
        write(0, 1, 4096)
        image.flush()
        write(512, 2, 8192)  // over two pages and a bit
        write(1024, 3, 512, isDurable: true)
        image.willClear(at: 2048, length: 512)
        memory.view.clear(at: 2048, length: 512)
        write(3 * 4096, 4, 512)  // the last page is a short one
        #expect(byte(512) == 2 && byte(3 * 4096) == 4)
        #expect(image.losePower().map(\.lowerBound).sorted() == [0, 4096, 8192, 12288])
        #expect(byte(0) == 1 && byte(512) == 1 && byte(4096) == 0 && byte(8192) == 0)
        #expect(byte(1024) == 3 && byte(2048) == 0 && byte(3 * 4096) == 0)
        #expect(image.losePower().isEmpty)
    }
}

/// What the oracle says that a power loss may leave.
@Suite struct OracleDurabilityTests {
    typealias Bench = SimulatorOracleTests.Bench

    private static let durable = SimulatedRequest(
        op: .write,
        flags: .fua,
        offsetBytes: 0,
        lengthBytes: 512
    )

    private func bench() -> Bench {
        var bench = Bench()
        bench.oracle = DataOracle(unitBytes: 512, depth: 4, isVolatile: true)
        return bench
    }

    private func flush(_ bench: inout Bench, _ outcome: BlockLayer.Outcome = .done) {
        bench.begin(3, .flush)
        bench.end(3, .flush, outcome)
    }

    /// Whether each of these may be there after a power loss.
    private func left(_ bench: inout Bench, _ contents: [[UInt8]]) -> [Bool] {
        contents.map { content in
            bench.oracle.losePower()
            bench.read(content)
            return bench.oracle.check.differing == 0
        }
    }

    @Test func `after a flush its data or something newer is left`() {
        var bench = bench()
        let old = bench.write()
        let flushed = bench.write()
        flush(&bench)
        let new = bench.write()
        let zeroes = SimulatorOracleTests.zeroes
        #expect(left(&bench, [zeroes, old, flushed, new]) == [false, false, true, true])
    }

    @Test func `a flush makes nothing durable that was under way when it began`() {
        var bench = bench()
        let zeroes = SimulatorOracleTests.zeroes
        bench.begin(0, .write(0, 512))
        let data = bench.content(0)
        bench.begin(3, .flush)
        bench.end(0, .write(0, 512))
        bench.end(3, .flush)
        #expect(left(&bench, [zeroes, data]) == [true, true])
        flush(&bench)
        #expect(left(&bench, [zeroes, data]) == [false, true])
    }

    @Test func `a flush that has failed makes nothing durable`() {
        var bench = bench()
        let data = bench.write()
        flush(&bench, .failed(.ioError))
        #expect(left(&bench, [SimulatorOracleTests.zeroes, data]) == [true, true])
    }

    @Test func `of two flushes under way each has what was over when it began`() {
        var bench = bench()
        let zeroes = SimulatorOracleTests.zeroes
        bench.begin(2, .flush)
        let data = bench.write()
        bench.begin(3, .flush)
        bench.end(2, .flush)
        #expect(left(&bench, [zeroes, data]) == [true, true])
        bench.end(3, .flush)
        #expect(left(&bench, [zeroes, data]) == [false, true])
    }

    @Test func `a write with FUA, and each one without a cache, is durable with its end`() {
        let zeroes = SimulatorOracleTests.zeroes
        var bench = bench()
        let old = bench.write()
        bench.begin(0, Self.durable)
        let data = bench.content(0)
        bench.end(0, Self.durable)
        #expect(left(&bench, [zeroes, old, data]) == [false, false, true])
        var through = Bench()
        let first = through.write()
        #expect(left(&through, [zeroes, first]) == [false, true])
    }

    @Test func `a write that has failed is left or not, and is no promise`() {
        var bench = bench()
        let old = bench.write()
        flush(&bench)
        let failed = bench.write(.failed(.ioError))
        flush(&bench)
        let zeroes = SimulatorOracleTests.zeroes
        #expect(left(&bench, [zeroes, old, failed]) == [false, true, true])
    }

    @Test func `of writes that overlapped either is left`() {
        var bench = bench()
        bench.begin(0, .write(0, 512))
        bench.begin(2, .write(0, 512))
        let (first, second) = (bench.content(0), bench.content(2))
        bench.end(0, .write(0, 512))
        bench.end(2, .write(0, 512))
        flush(&bench)
        let zeroes = SimulatorOracleTests.zeroes
        #expect(left(&bench, [zeroes, first, second]) == [false, true, true])
    }

    @Test func `a discard leaves old data or zeroes, flushed zeroes leave zeroes`() {
        var bench = bench()
        let zeroes = SimulatorOracleTests.zeroes
        let old = bench.write()
        flush(&bench)
        bench.begin(2, .discard(0, 512))
        bench.end(2, .discard(0, 512))
        flush(&bench)
        #expect(left(&bench, [zeroes, old]) == [true, true])
        bench.begin(2, .writeZeroes(0, 512))
        bench.end(2, .writeZeroes(0, 512))
        #expect(left(&bench, [zeroes, old]) == [true, true])
        flush(&bench)
        #expect(left(&bench, [zeroes, old]) == [true, false])
    }
}
