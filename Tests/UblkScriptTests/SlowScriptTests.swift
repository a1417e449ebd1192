import Testing

@testable import UblkScript

/// What the shipped scripts that are about time do: slow, stalled, held.
@Suite struct SlowScriptTests {
    private func run(
        _ name: String,
        _ settings: [String: String] = [:],
        _ requests: [SimulatedRequest],
        depth: Int = 1,
        first: String = ""
    ) throws -> Simulation.Result {
        let script = try #require(ShippedScript.named(name))
        return try simulate(first + "\n" + script.text, settings: settings) {
            $0.workload = Workload(requests, depth: depth)
        }
    }

    private func reads(_ count: Int, _ length: UInt64 = 4096) -> [SimulatedRequest] {
        Array(repeating: .read(0, length), count: count)
    }

    private func writes(_ count: Int, _ length: UInt64 = 4096) -> [SimulatedRequest] {
        Array(repeating: .write(0, length), count: count)
    }

    /// How long each request took.
    private func seconds(_ result: Simulation.Result) -> [Double] {
        result.finished.map { (Double($0.nanoseconds) / 1e8).rounded() / 10 }
    }

    private func end(_ result: Simulation.Result) -> Double {
        Double(result.finished.map(\.endedAt.nanoseconds).max() ?? 0) / 1e9
    }

    @Test func `rate-limit lets so many bytes and IOs a second pass`() throws {
        let bytes = try run(
            "rate-limit",
            ["rate": "1M", "burst": "512K"],
            reads(384),
            depth: 64
        )
        #expect(abs(end(bytes) - 1) < 0.05, "\(end(bytes))")
        let ios = try run("rate-limit", ["iops": "10"], reads(21), depth: 64)
        #expect(abs(end(ios) - 2) < 0.11, "\(end(ios))")
        let others = ["rate": "1", "burst": "1", "op": "write"]
        #expect(try end(run("rate-limit", others, reads(100))) < 0.1)
        let script = try #require(ShippedScript.named("rate-limit"))
        let harness = try ScriptHarness(script.text)
        #expect(try harness.ctl("rate", "500K") == "512000 bytes a second")
        #expect(throws: ScriptError.self) { try harness.ctl("rite") }
    }

    @Test func `hang-timeout holds some IOs and then times them out`() throws {
        let few = ["after": "2", "times": "3"]
        let result = try run("hang-timeout", few, reads(8))
        #expect(
            result.outcomes == ["", ""] + Array(repeating: "ETIMEDOUT", count: 3) + ["", "", ""]
        )
        #expect(seconds(result) == [0, 0, 30, 30, 30, 0, 0, 0])
        let done = try run("hang-timeout", few.merging(["errno": "none"]) { $1 }, reads(8))
        #expect(done.report.errors.isEmpty && seconds(done) == seconds(result))
        let never = try run("hang-timeout", ["after": "8"], reads(8))
        #expect(never.report.errors.isEmpty && end(never) < 1)
        let always = try run("hang-timeout", ["after": "0", "times": "0", "hang": "1s"], reads(8))
        #expect(seconds(always) == Array(repeating: 1, count: 8))
        let held = try run("hang-timeout", ["after": "0", "hang": "0s"], reads(8), depth: 4)
        #expect(held.report.end == .held && held.report.heldForEver == 4)
    }

    @Test func `failslow-vibration is quick while it is up and crawls while it is down`() throws {
        let result = try run(
            "failslow-vibration",
            ["up": "1s", "down": "10s", "rate": "100K"],
            reads(30, 65536),
            first: "rule { delay = \"100ms\" }"
        )
        let waits = seconds(result)
        #expect(waits.prefix(10).allSatisfy { $0 == 0.1 }, "\(waits)")
        #expect(waits[11..<20].allSatisfy { (0.6...0.8).contains($0) }, "\(waits)")
        #expect(try end(run("failslow-vibration", [:], reads(1000))) < 1)
    }

    @Test func `failslow-tail is slower by the factor for its share of the time`() throws {
        func medians(_ share: String) throws -> (well: UInt64, ill: UInt64) {
            let result = try run(
                "failslow-tail",
                ["share": share, "period": "1s", "factor": "10"],
                reads(5000)
            )
            let (early, late) = (
                result.finished.filter { $0.sentAt.nanoseconds % 1_000_000_000 < 500_000_000 },
                result.finished.filter { $0.sentAt.nanoseconds % 1_000_000_000 >= 500_000_000 }
            )
            func median(_ list: [SimulatedApplication.Finished]) -> UInt64 {
                let sorted = list.map(\.nanoseconds).sorted()
                return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
            }
            return (median(early), median(late))
        }
        let half = try medians("0.5")
        #expect((80_000...130_000).contains(half.well), "\(half.well)")
        #expect((8...16).contains(Double(half.ill) / Double(half.well)), "\(half)")
        let hardly = try medians("0.0001")
        #expect((0.8...1.2).contains(Double(hardly.ill) / Double(hardly.well)), "\(hardly)")
    }

    @Test func `nvme-reset stops everything once, and then goes on, fails or is gone`() throws {
        let settings = ["at": "1s", "reset": "10s"]
        func run(_ more: [String: String]) throws -> Simulation.Result {
            try self.run(
                "nvme-reset",
                settings.merging(more) { $1 },
                reads(6),
                first: "rule { delay = \"500ms\" }"
            )
        }
        let well = try run([:])
        #expect(seconds(well) == [0.5, 0.5, 10.5, 0.5, 0.5, 0.5] && well.report.errors.isEmpty)
        let failing = try run(["errno": "ENOLINK"])
        #expect(failing.outcomes == ["", "", "ENOLINK", "", "", ""])
        let gone = try run(["gone": "true"])
        #expect(gone.outcomes == ["", "", "", "ENODEV", "ENODEV", "ENODEV"])
        let never = try run(["at": "1h"])
        #expect(seconds(never) == Array(repeating: 0.5, count: 6))
        let together = try self.run("nvme-reset", ["at": "0s", "reset": "10s"], reads(8), depth: 8)
        #expect(seconds(together) == Array(repeating: 10, count: 8))
    }

    @Test func `smr-dm is quick until its cache is full`() throws {
        let settings = ["media_cache": "1M", "rate": "1M", "p": "0"]
        let result = try run("smr-dm", settings, writes(512), depth: 32)
        let ends = result.finished.map { Double($0.endedAt.nanoseconds) / 1e9 }
        #expect(ends[255] < 0.1 && abs(ends[511] - 1) < 0.05, "\(ends[255]) \(ends[511])")
        #expect(try end(run("smr-dm", settings, reads(512), depth: 32)) < 0.1)
        let stalling = try run("smr-dm", ["media_cache": "1M", "p": "1"], writes(260))
        #expect(seconds(stalling)[..<256].allSatisfy { $0 < 1 })
        #expect(seconds(stalling)[256...].allSatisfy { $0 >= 5 }, "\(seconds(stalling)[256...])")
    }

    @Test func `cloud-stall stands still never, sometimes or at every IO`() throws {
        #expect(try end(run("cloud-stall", ["p": "0"], reads(1000))) < 1)
        let always = try run("cloud-stall", ["p": "1"], reads(20))
        #expect(seconds(always).allSatisfy { $0 >= 2 })
        let some = try run("cloud-stall", ["p": "0.1"], reads(5000)).report.rules.map(\.acted)
        #expect((400...600).contains(some[0]), "\(some)")
        #expect((25...80).contains(some[1]) && (1...15).contains(some[2]), "\(some)")
        let together = try run("cloud-stall", ["p": "1", "short": "3s"], reads(8), depth: 8)
        #expect(Set(seconds(together)).count <= 3, "\(seconds(together))")
    }
}
