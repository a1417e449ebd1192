import Testing

@testable import UblkScript

/// `simulate NAME` of a shipped fault shows the fault, by the workload that its manual names.
@Suite(.enabled(if: ProgramRun.program != nil, "ublk-script is not beside the test bundle"))
struct SuggestedRunTests {
    private static let faults = ShippedScript.all.filter { $0.kind == .faults }.map(\.name)
    private let scratch = ScratchDirectory()

    private func report(_ words: [String]) throws -> SimulationReport {
        let run = ProgramRun(["simulate"] + words + ["--seed", "1", "--json"], in: scratch)
        #expect(run.exitCode == 0, "\(words): \(run.errors)")
        return try #require(JSON.decode(SimulationReport.self, Array(run.output.utf8)))
    }

    @Test(arguments: faults)
    func `every shipped fault acts in the run that it suggests`(name: String) throws {
        let report = try report([name])
        #expect(report.suggestedRun?.isEmpty == false)
        #expect(!report.actions.isEmpty, "\(name) let everything pass")
        #expect(!SimulationText(report).text.contains("let everything pass"))
        #expect(report.end == .finished && report.scriptErrors.count == 0)
    }

    @Test func `what the command line says replaces what a script suggests`() throws {
        let words = ["flakey", "--ops", "300", "up=1s"]
        let report = try report(words)
        #expect(report.requestCount == 300)
        // At the suggested 100 requests a second.
        #expect((2.5...3.5).contains(report.virtualSeconds))
        #expect(report.actions.contains { $0.name == "failed" })
    }

    @Test func `a script of one's own suggests a run, too, and a bad line says where it is`() throws
    {
        let head = "-- Mine.\n-- Simulate: --ops 7 --rw read size=2M\n"
        let path = scratch.write("mine.lua", head + "device { size = \"1M\" }")
        let mine = try report([path])
        #expect(mine.requestCount == 7 && mine.sizeBytes == 2 << 20)
        #expect(try report([path, "size=3M"]).sizeBytes == 3 << 20)
        let bad = scratch.write("bad.lua", "-- Simulate: --op 7\ndevice { size = \"1M\" }")
        let run = ProgramRun(["simulate", bad], in: scratch)
        #expect(run.exitCode == 1)
        #expect(
            run.errors.contains("\"-- Simulate: --op 7\" in its first comment"),
            "\(run.errors)"
        )
    }
}
