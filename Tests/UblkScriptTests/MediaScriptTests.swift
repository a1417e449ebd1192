import Testing

@testable import UblkScript

/// What the shipped scripts about orders, versions and wear do to an application: never, sometimes, always.
@Suite struct MediaScriptTests {
    private func run(
        _ name: String,
        _ settings: [String: String] = [:],
        _ requests: [SimulatedRequest],
        depth: Int = 1,
        seed: UInt64 = 1
    ) throws -> Simulation.Result {
        let script = try #require(ShippedScript.named(name))
        return try simulate(script.text, seed: seed, settings: settings) {
            $0.workload = Workload(requests, depth: depth)
            $0.logFD = 2
        }
    }

    private let eightWrites = (0..<8).map { SimulatedRequest.write($0 * 4096) }

    private func offsets(_ result: Simulation.Result) -> [UInt64] {
        result.finished.map { $0.request.offsetBytes / 4096 }
    }

    // MARK: reorder

    @Test func `reorder does a batch in the order that it is told`() throws {
        let fifo = try run("reorder", ["order": "fifo"], eightWrites, depth: 8)
        let lifo = try run("reorder", ["order": "lifo"], eightWrites, depth: 8)
        let random = try run("reorder", [:], eightWrites, depth: 8)
        #expect(offsets(lifo) == offsets(fifo).reversed())
        #expect(offsets(random) != offsets(fifo) && offsets(random).sorted() == Array(0..<8))
        #expect(offsets(try run("reorder", [:], eightWrites, depth: 8)) == offsets(random))
        #expect(fifo.report.virtualSeconds < 0.001 && random.report.errors.isEmpty)
    }

    @Test func `reorder keeps nobody longer than it says, and touches no other op`() throws {
        let result = try run("reorder", ["wait": "3ms"], [.write(0), .read(0), .flush])
        #expect(result.finished.map { ($0.nanoseconds + 999_999) / 1_000_000 } == [3, 0, 0])
        let reads = try run("reorder", ["op": "read", "batch": "1"], eightWrites + [.read(0)])
        #expect(reads.action("hung") == 1 && reads.report.virtualSeconds < 0.001)
    }

    // MARK: discard

    /// Three reads: before the discard, after it, and once the place is written again.
    private let discarding: [SimulatedRequest] = [
        .write(8192), .read(8192), .discard(8192), .read(8192), .write(8192), .read(8192),
    ]

    @Test(arguments: [
        ("zero", 0, 0, ""), ("old", 1, 0, ""), ("garbage", 0, 1, ""),
        ("refuse", 0, 0, "EOPNOTSUPP"),
    ])
    func `discard leaves what its mode says`(
        mode: String,
        dropped: UInt64,
        corrupted: UInt64,
        errno: String
    ) throws {
        let result = try run("discard", ["mode": mode], discarding)
        #expect(result.action("dropped") == dropped && result.action("corrupted") == corrupted)
        #expect(result.outcomes == ["", "", errno, "", "", ""])
    }

    @Test func `discard refuses a mode that is none`() {
        #expect(throws: ScriptProblem.self) { try run("discard", ["mode": "maybe"], [.read(0)]) }
    }

    // MARK: wear

    @Test(arguments: [("5", 5), ("1", 1), ("100", 20)])
    func `a block is worn out after its share of writes, and its neighbour is not`(
        writes: String,
        good: Int
    ) throws {
        let same = Array(repeating: SimulatedRequest.write(4096), count: 20)
        let result = try run(
            "wear",
            ["writes": writes, "spread": "0", "block": "64K"],
            same + [.write(65536), .read(4096)]
        )
        let expected = Array(repeating: "", count: good) + Array(repeating: "EIO", count: 20 - good)
        #expect(result.outcomes == expected + ["", ""])
    }

    @Test func `blocks differ in how long they last`() throws {
        let many = (0..<64).flatMap { block in
            Array(repeating: SimulatedRequest.write(UInt64(block) << 16), count: 20)
        }
        let result = try run("wear", ["writes": "10", "spread": "0.5", "block": "64K"], many)
        let errors = stride(from: 0, to: many.count, by: 20).map { start in
            result.outcomes[start..<(start + 20)].count { $0 == "EIO" }
        }
        #expect(Set(errors).count > 5 && errors.allSatisfy { (5...15).contains($0) })
    }

    @Test func `reads disturb a block until it is written again`() throws {
        let reads = Array(repeating: SimulatedRequest.read(0), count: 5)
        let requests = reads + [.write(0, 65536)] + reads
        let result = try run("wear", ["reads": "3", "block": "64K"], requests)
        let once = ["", "", "", "ENODATA", "ENODATA"]
        #expect(result.outcomes == once + [""] + once)
        let never = try run("wear", [:], requests)
        #expect(never.report.errors.isEmpty)
    }

    // MARK: stale

    @Test(arguments: [("0", 0...0), ("0.5", 400...600), ("1", 1000...1000)])
    func `stale gives back the last version but one`(p: String, wrong: ClosedRange<Int>) throws {
        let requests =
            [SimulatedRequest.write(0), .write(0), .write(8192)]
            + Array(repeating: .read(0), count: 1000) + [.read(8192)]
        let result = try run("stale", ["p": p], requests)
        #expect(result.report.errors.isEmpty && result.report.scriptErrors.texts == [])
        // What was written once has no version before it.
        let differing = try #require(result.report.data?.differing)
        #expect(wrong.contains(Int(differing)), "\(differing)")
    }

    @Test func `stale keeps each block of a large IO apart`() throws {
        let result = try run(
            "stale",
            ["p": "1"],
            [.write(0, 32768), .write(4096), .read(0, 32768)]
        )
        #expect(result.report.data?.differing == 1)
    }
}
