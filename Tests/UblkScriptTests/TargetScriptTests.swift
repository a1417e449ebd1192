import Testing

@testable import UblkScript

/// The scripts of scripts/targets: disks made out of others, right for every IO, and what makes each of them useful.
@Suite struct TargetScriptTests {
    /// A target with small parts, so that IOs meet their borders all the time.
    struct Case: Sendable, CustomTestStringConvertible {
        let name: String
        var settings: [String: String] = [:]
        var block: UInt64 = 512
        var longest: UInt64 = 64 << 10
        var requests = TestHost.runsSlowTests ? 4000 : 1000
        var testDescription: String { "\(name) \(settings)" }
    }

    private static let cases = [
        Case(name: "stripe", settings: ["legs": "3", "chunk": "16K"]),
        Case(name: "stripe", settings: ["legs": "15", "chunk": "12K", "path": "/leg"]),
        Case(name: "stripe", settings: ["legs": "1", "chunk": "64K", "size": "1000K"]),
        Case(name: "mirror"),
        Case(name: "mirror", settings: ["path": "/leg"]),
        Case(name: "concat", settings: ["disks": "4608,1M,20K,12K,2M,30K,1M,1M"]),
        Case(name: "concat", settings: ["disks": "1M,7M", "path": "/disk"]),
        Case(name: "offset", settings: ["start": "3584"]),
        Case(name: "offset", settings: ["path": "/disk"]),
        Case(name: "thin", settings: ["chunk": "16K", "pool": "8M"]),
        Case(name: "thin", settings: ["chunk": "64K", "pool": "4M"]),
        Case(name: "sparse", settings: ["backing": "memory"], block: 4096),
        Case(name: "log", settings: ["log": "1G"], block: 4096, longest: 32 << 10),
    ]

    private func run(
        _ name: String,
        _ settings: [String: String] = [:],
        then more: String = "",
        _ change: (inout Simulation) -> Void
    ) throws -> Simulation.Result {
        let script = try #require(ShippedScript.named(name))
        let settings = ["size": "4M"].merging(settings) { $1 }
        let result = try simulate(script.text + "\n" + more, settings: settings, change)
        #expect(result.report.scriptErrors.count == 0, "\(result.report.scriptErrors.texts)")
        return result
    }

    private func run(
        _ name: String,
        _ settings: [String: String] = [:],
        then more: String = "",
        _ requests: [SimulatedRequest]
    ) throws -> Simulation.Result {
        try run(name, settings, then: more) { $0.workload = Workload(requests) }
    }

    private func differing(_ result: Simulation.Result) throws -> Int {
        try #require(result.report.data).differing
    }

    // MARK: All of them

    @Test(arguments: cases)
    func `a target is a disk: whatever is written is read again`(target: Case) throws {
        let result = try run(target.name, target.settings) {
            $0.workload.requests = target.requests
            $0.workload.depth = 8
            $0.workload.blockBytes = target.block
            $0.workload.blockBytesMax = target.longest
            $0.workload.weights = [.read: 45, .write: 40, .flush: 3, .discard: 6, .writeZeroes: 6]
        }
        let data = try #require(result.report.data)
        #expect(data.differing == 0, "\(data)")
        #expect(data.reads > target.requests / 3)
        #expect(result.report.errors.isEmpty, "\(result.report.errors)")
        let ops = result.report.requests.map(\.name)
        #expect(ops.contains("discard") && ops.contains("write_zeroes"))
    }

    /// The longest that the device lets through of each kind, at every place inside of a chunk.
    @Test(arguments: ["stripe", "thin"])
    func `the longest IO fits into one verdict wherever it begins`(name: String) throws {
        let script = try #require(ShippedScript.named(name))
        let chunk = Setting(key: "chunk", value: .string("16K"), origin: "test")
        let config = try LoadedScript.plan(ScriptSource(script), overrides: [chunk]).config
        let length = UInt64(config.maxIOBytes)
        let discard = try #require(config.discard).maxBytes
        let zeroes = try #require(config.writeZeroes).maxBytes
        let requests = (0..<40).flatMap { index -> [SimulatedRequest] in
            let offset = UInt64(index) * 512
            return [
                .write(offset, length), .read(offset, length), .discard(offset, discard),
                .write(offset, length), .writeZeroes(offset, zeroes), .read(offset, length),
            ]
        }
        let result = try run(name, ["chunk": "16K"], requests)
        #expect(try differing(result) == 0 && result.report.errors.isEmpty)
    }

    @Test(arguments: ["thin", "sparse", "log"])
    func `a map in a Lua table wants one queue`(name: String) throws {
        #expect {
            try run(name, ["queues": "2"], [.read(0)])
        } throws: { "\($0)".contains("queues=2: ") }
        _ = try run(name, ["queues": "1"], [.read(0)])
    }

    // MARK: stripe

    @Test func `the chunks of a stripe are on all legs in turn`() throws {
        let chunk: UInt64 = 16 << 10
        // Chunks 0, 1, 2 are on legs 1, 2, 3, and chunk 3 is on leg 1 again, behind chunk 0.
        let look = """
            function read(io, offset)
              local n = offset // 16384
              return to(n // 3 * 16384, legs[n % 3 + 1])
            end
            """
        let requests =
            [.write(0, 7 * chunk)] + (0..<7).map { SimulatedRequest.read($0 * chunk, chunk) }
        let result = try run("stripe", ["legs": "3", "chunk": "16K"], then: look, requests)
        #expect(try differing(result) == 0)
        #expect(result.report.data?.reads == 7)
    }

    // MARK: mirror

    @Test func `both legs of a mirror have everything, and reads take turns`() throws {
        for leg in 1...2 {
            let look = "function read(io, offset) return to(offset, legs[\(leg)]) end"
            let result = try run(
                "mirror",
                then: look,
                [.write(0), .write(8192, 512), .writeZeroes(0, 512), .read(0, 16384)]
            )
            #expect(try differing(result) == 0, "leg \(leg)")
        }
        // Leg 1 is a file, leg 2 memory.
        let script = try #require(ShippedScript.named("mirror")).text
        let half = script.replacing("p.path .. i or nil", with: "i == 1 and p.path or nil")
        let result = try simulate(half, settings: ["path": "/leg"]) {
            $0.workload = Workload(Array(repeating: .read(0), count: 10))
        }
        #expect(result.fileOperations[.read] == 5)
    }

    /// Says words to a mirror 10 ms and 20 ms after the start, while requests take 1 ms.
    private func mirror(_ words: [[String]]) throws -> Simulation.Result {
        try run("mirror", then: "rule { delay = \"1ms\" }") {
            $0.workload.requests = 400
            $0.workload.depth = 8
            $0.workload.weights = [.read: 1, .write: 1]
            $0.workload.blockBytes = 512
            $0.interventions = words.enumerated().map { index, words in
                QueueTests.at(UInt64(index + 1) * 10, .control(words, Promise<QueueAnswer>()))
            }
        }
    }

    @Test(arguments: [1, 2])
    func `a mirror keeps its data when either side is failed`(leg: Int) throws {
        let result = try mirror([["fail", "\(leg)"]])
        #expect(try differing(result) == 0 && result.report.errors.isEmpty)
    }

    @Test func `a failed side gets no IO any more, and without any all fail`() throws {
        let failed = "failed[1]:set(1)\n"
        let look = "function read(io, offset) return to(offset, legs[1]) end"
        let without = try run("mirror", then: failed + look, [.write(0), .read(0)])
        #expect(without.report.data?.zeroes == 8, "the write was not for leg 1")
        let both = try mirror([["fail", "1"], ["fail", "2"]])
        #expect(Set(both.outcomes.prefix(50)) == [""])
        #expect(Set(both.outcomes.suffix(50)) == ["EIO"])
    }

    // MARK: concat, offset

    @Test func `a concat goes on with the next disk where one ends`() throws {
        let look = """
            function read(io, offset)
              local second = bytes("1M")
              if offset < second then return to(offset, extents[1].disk) end
              return to(offset - second, extents[2].disk)
            end
            """
        let border: UInt64 = 1 << 20
        let result = try run(
            "concat",
            ["disks": "1M,3M"],
            then: look,
            [.write(border - 8192, 16384), .read(border - 8192, 8192), .read(border, 8192)]
        )
        #expect(try differing(result) == 0)
        for settings in [["disks": "1M,2M"], ["disks": "1M,1M,1M,1M,1M,1M,1M,1M,1M"]] {
            #expect(throws: ScriptProblem.self) { try run("concat", settings, [.read(0)]) }
        }
    }

    @Test func `an offset is a window`() throws {
        let look = "function read(io, offset) return to(offset + 1024 * 1024, disk) end"
        let last: UInt64 = (4 << 20) - 4096
        let result = try run(
            "offset",
            then: look,
            [.write(0), .read(0), .write(last), .read(last)]
        )
        #expect(try differing(result) == 0)
    }

    // MARK: thin

    private static let chunk: UInt64 = 64 << 10

    @Test func `a thin volume is full when its pool is, and discards give space back`() throws {
        let chunk = Self.chunk
        let result = try run(
            "thin",
            ["pool": "128K"],
            [
                .write(0), .write(10 * chunk), .write(20 * chunk), .write(4096), .read(20 * chunk),
                .discard(0, chunk - 4096), .write(20 * chunk), .discard(0, chunk),
                .write(20 * chunk), .read(20 * chunk, chunk), .read(0, chunk),
            ]
        )
        #expect(
            result.outcomes == ["", "", "ENOSPC", "", "", "", "ENOSPC", "", "", "", ""]
        )
        #expect(try differing(result) == 0)
    }

    @Test func `a thin volume says how much of its pool is in use`() throws {
        let script = try #require(ShippedScript.named("thin")).text
        let answers = (0..<2).map { _ in Promise<QueueAnswer>() }
        _ = try simulate(script + "\nrule { delay = \"10ms\" }", settings: ["pool": "1M"]) {
            $0.workload = Workload([
                .write(Self.chunk - 512, 1024), .discard(0, Self.chunk), .read(0),
            ])
            $0.interventions = zip([5, 15], answers).map {
                QueueTests.at($0, .control(["status"], $1))
            }
        }
        let texts = answers.map { $0.wait(seconds: 0)?.said.text }
        #expect(texts[0] == "2 of 16 chunks of 65536 bytes are in use")
        #expect(texts[1] == "1 of 16 chunks of 65536 bytes are in use")
    }

    @Test func `a chunk that is used again holds nothing of its first owner`() throws {
        let chunk = Self.chunk
        let result = try run(
            "thin",
            ["pool": "64K"],
            [
                .write(0, chunk), .discard(0, chunk), .write(chunk + 512, 512),
                .read(chunk, chunk), .read(0, chunk),
            ]
        )
        #expect(try differing(result) == 0 && result.report.errors.isEmpty)
    }

    // MARK: sparse

    @Test func `a sparse disk is huge, and full when what it keeps is`() throws {
        let far: UInt64 = (1 << 50) - 4096
        let settings = ["size": "1024T", "room": "8K"]
        // Without a backing nothing is compared, and what the application writes is zero: so zero is kept, too.
        let result = try run(
            "sparse",
            settings,
            then: "zeroes = nil",
            [
                .write(0), .write(far), .write(8192), .read(far), .write(far),
                .discard(1 << 40, 1 << 30), .write(8192), .discard(0, 1 << 30), .write(8192),
            ]
        )
        #expect(result.outcomes == ["", "", "ENOSPC", "", "", "", "ENOSPC", "", ""])
    }

    /// Clearing more blocks than are kept goes another way than clearing few.
    @Test func `a large piece of a sparse disk is cleared, and nothing beside it`() throws {
        let result = try run(
            "sparse",
            ["backing": "memory"],
            [
                .write(0, 8192), .write(9 * 4096, 8192), .write(20 * 4096, 8192),
                .writeZeroes(4096, 20 * 4096), .read(0, 65536), .read(65536, 65536),
            ]
        )
        #expect(try differing(result) == 0)
    }

    // MARK: log

    @Test func `a log stores writes one after the other, and is full one day`() throws {
        // Reads take the place that the write had among all writes.
        let look = """
            local count = -1
            function read(io, offset) count = count + 1; return to(count * 4096, medium) end
            """
        let writes = [7, 3, 900, 3, 0].map { SimulatedRequest.write($0 * 4096) }
        let reads = [7, 3, 900, 3, 0].map { SimulatedRequest.read($0 * 4096) }
        let result = try run("log", ["log": "24K"], then: look, writes + reads)
        #expect(result.report.data?.stale == 1, "the second of five blocks is garbage")
        #expect(try differing(result) == 1)
        let full = try run("log", ["log": "8K"], [.write(0), .write(0), .write(0), .read(0)])
        #expect(full.outcomes == ["", "", "ENOSPC", ""])
        #expect(try differing(full) == 0)
    }

    @Test func `a log counts its garbage`() throws {
        let script = try #require(ShippedScript.named("log")).text
        let answer = Promise<QueueAnswer>()
        _ = try simulate(script + "\nrule { delay = \"1ms\" }", settings: ["log": "64K"]) {
            $0.workload = Workload([
                .write(0, 8192), .write(4096, 8192), .discard(0), .writeZeroes(8192),
                .writeZeroes(8192), .read(0), .read(0), .read(0),
            ])
            $0.interventions = [QueueTests.at(7, .control(["status"], answer))]
        }
        let text = answer.wait(seconds: 0)?.said.text
        #expect(text == "log: 4 of 16 blocks written, 1 live, 3 garbage")
    }
}
