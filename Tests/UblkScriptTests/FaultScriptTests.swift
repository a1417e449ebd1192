import Testing

@testable import UblkScript

/// What each shipped fault script does to an application: never, sometimes, always.
@Suite struct FaultScriptTests {
    private static let eight: UInt64 = 8 << 20

    /// Runs a shipped script on a device of 16 MiB.
    ///
    /// - Parameter first: rules before its own, to let time pass.
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

    private func reads(_ count: Int) -> [SimulatedRequest] {
        Array(repeating: .read(0), count: count)
    }

    private func writes(_ count: Int) -> [SimulatedRequest] {
        Array(repeating: .write(0), count: count)
    }

    /// Every byte of the device, 64 KiB at a time.
    private func everywhere(
        _ request: (_ offset: UInt64, _ length: UInt64) -> SimulatedRequest
    ) -> [SimulatedRequest] {
        (0..<256).map { request($0 * 65536, 65536) }
    }

    /// How long each request took, in whole seconds.
    private func seconds(_ result: Simulation.Result) -> [Double] {
        result.finished.map { (Double($0.nanoseconds) / 1e9).rounded() }
    }

    /// "x" for each request that failed.
    private func pattern(_ result: Simulation.Result) -> String {
        result.outcomes.map { $0.isEmpty ? "." : "x" }.joined()
    }

    private static let everySecond = "rule { delay = \"1s\" }"

    // MARK: Like the device mapper's

    @Test func `flakey works for the time up and fails for the time down`() throws {
        let times = ["up": "5s", "down": "2s"]
        let failing = try run("flakey", times, reads(21), first: Self.everySecond)
        #expect(pattern(failing) == ".....xx.....xx.....xx")
        let dropping = try run(
            "flakey",
            times.merging(["fault": "drop"]) { $1 },
            writes(21),
            first: Self.everySecond
        )
        #expect(pattern(dropping) == String(repeating: ".", count: 21))
        #expect(dropping.action("dropped") == 6)
        let corrupting = try run(
            "flakey",
            times.merging(["fault": "corrupt"]) { $1 },
            writes(7) + reads(7),
            first: Self.everySecond
        )
        #expect(corrupting.action("corrupted") == 4)
        let others = times.merging(["op": "write"]) { $1 }
        #expect(try run("flakey", others, reads(21), first: Self.everySecond).report.errors.isEmpty)
        #expect(throws: ScriptProblem.self) { try run("flakey", ["fault": "flop"], reads(1)) }
    }

    @Test func `dust has a bad place until it is rewritten`() throws {
        let bad = Self.eight
        let script: [SimulatedRequest] = [
            .read(0), .read(bad), .read(bad), .write(bad), .read(bad),
        ]
        #expect(try run("dust", [:], script).outcomes == ["", "ENODATA", "ENODATA", "", ""])
        #expect(try pattern(run("dust", ["start": "1M"], script)) == ".....")
        #expect(
            try run("dust", ["errno": "EIO", "write_fails": "1"], script).outcomes
                == ["", "EIO", "EIO", "EIO", "EIO"]
        )
        #expect(try pattern(run("dust", [:], [.discard(bad), .read(bad)])) == "..")
    }

    @Test func `delay makes the kinds of IO slow that it is told to`() throws {
        let result = try run(
            "delay",
            ["read": "3s", "write": "2s", "flush": "1s"],
            [.read(0), .write(0), .flush, .discard(0)]
        )
        #expect(seconds(result) == [3, 2, 1, 0])
        let usual = try run("delay", [:], [.read(0), .write(0)])
        #expect(usual.finished.map { $0.nanoseconds / 1_000_000 } == [0, 50])
    }

    @Test func `error fails never, sometimes and always, by kind and place`() throws {
        for (chance, errors) in [("0", 0...0), ("0.5", 400...600), ("1", 1000...1000)] {
            let result = try run("error", ["p": chance], reads(1000))
            #expect(errors.contains(result.outcomes.count { $0 == "EIO" }), "\(chance)")
        }
        let requests: [SimulatedRequest] = [.read(0), .write(0), .flush, .write(Self.eight)]
        #expect(try pattern(run("error", [:], requests)) == "xxxx")
        let write = ["op": "write", "errno": "ENOSPC"]
        #expect(try run("error", write, requests).outcomes == ["", "ENOSPC", "", "ENOSPC"])
        let place = ["start": "8M", "len": "4K"]
        #expect(try pattern(run("error", place, requests)) == "...x")
    }

    // MARK: Bad sectors and bad data

    /// The first read lasts until the moment that the script waits for.
    private static let later = "rule { op = \"read\", nth = 1, delay = \"2s\" }"

    @Test func `bitrot flips bits of sectors at rest until they are rewritten`() throws {
        func differing(_ settings: [String: String], _ rest: [SimulatedRequest] = []) throws -> Int
        {
            let requests =
                everywhere { .write($0, $1) } + reads(1) + rest + everywhere { .read($0, $1) }
            let settings = ["span": "16M"].merging(settings) { $1 }
            let result = try run("bitrot", settings, requests, first: Self.later)
            return try #require(result.report.data).differing
        }
        #expect(try (60...64).contains(differing(["after": "1s"])))
        #expect(try differing(["after": "1s", "sectors": "1"]) == 1)
        #expect(try differing(["after": "1h"]) == 0)
        #expect(try differing(["after": "1s"], everywhere { .write($0, $1) }) == 0)
        let twice = everywhere { .read($0, $1) }
        #expect(try differing(["after": "1s"], twice) == 2 * differing(["after": "1s"]))
    }

    @Test(arguments: [("lse-nearline", 9), ("lse-enterprise", 2)])
    func `latent sector errors are found when they are read, and healed`(
        name: String,
        clusters: Int
    ) throws {
        func failing(_ settings: [String: String], _ rest: [SimulatedRequest] = []) throws -> Int {
            let blocks = (0..<4096).map { SimulatedRequest.read($0 * 4096) }
            let settings = ["span": "16M", "after": "1s"].merging(settings) { $1 }
            let result = try run(name, settings, reads(1) + rest + blocks, first: Self.later)
            #expect(result.outcomes.allSatisfy { $0.isEmpty || $0 == "ENODATA" })
            return result.outcomes.count { !$0.isEmpty }
        }
        let bad = try failing([:])
        #expect((clusters...clusters * 12).contains(bad), "\(bad)")
        #expect(try failing(["clusters": "100"]) > 250)
        #expect(try failing(["after": "1h"]) == 0)
        #expect(try failing([:], everywhere { .write($0, $1) }) == 0)
        #expect(try failing(["place": "7"]) > 0)
    }

    @Test(arguments: [("hdd-desktop-retry", 120.0), ("hdd-raid-erc", 7)])
    func `a disk that retries a bad sector does nothing else`(name: String, retry: Double) throws {
        let bad = Self.eight
        let result = try run(
            name,
            [:],
            [.read(0), .read(bad), .read(0), .write(4096), .write(bad), .read(bad)],
            depth: 3
        )
        #expect(result.outcomes.count { $0 == "ENODATA" } == 1)
        let slow = result.finished.filter { $0.nanoseconds > 1_000_000_000 }
        // The bad one, and the two that were sent meanwhile; nothing before and nothing after.
        #expect(slow.count == 3)
        #expect(slow.allSatisfy { (Double($0.nanoseconds) / 1e9).rounded() == retry })
        let longer = try run(name, ["retry": "200s"], [.read(bad)])
        #expect(seconds(longer) == [200] && longer.outcomes == ["ENODATA"])
        #expect(try seconds(run(name, ["start": "0"], [.read(bad)])) == [0])
    }

    @Test func `misdirect sends writes or reads elsewhere, by chance`() throws {
        func misdirected(_ settings: [String: String]) throws -> UInt64 {
            try run("misdirect", settings, writes(1000)).action("redirected")
        }
        #expect(try misdirected(["p": "0"]) == 0)
        #expect(try (400...600).contains(misdirected(["p": "0.5"])))
        #expect(try misdirected(["p": "1"]) == 1000)
        #expect(try misdirected(["p": "1", "op": "read"]) == 0)
        let result = try run(
            "misdirect",
            ["p": "1", "op": "read", "distance": "1M"],
            [.write(0), .write(1 << 20), .read(0)]
        )
        #expect(result.report.data?.foreign == 8)
    }

    @Test func `fsyncgate fails one write or one flush, and no other`() throws {
        #expect(try pattern(run("fsyncgate", ["nth": "3"], writes(6))) == "..x...")
        #expect(try pattern(run("fsyncgate", ["nth": "7"], writes(6))) == "......")
        let flush = ["op": "flush", "nth": "2", "errno": "ENOSPC"]
        let result = try run("fsyncgate", flush, [.write(0), .flush, .flush, .flush])
        #expect(result.outcomes == ["", "", "ENOSPC", ""])
    }
}
