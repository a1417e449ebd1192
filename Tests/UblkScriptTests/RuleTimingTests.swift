import CLua
import Testing

@testable import UblkScript

/// Rules whose delay is not one fixed time: rate, service, stall, distributions.
@Suite struct RuleTimingTests {
    /// When each of so many reads of 4 KiB, all sent at once, ended; ms, in order.
    private func ends(
        _ script: String,
        reads: Int,
        depth: Int = 128,
        length: UInt64 = 4096
    ) throws -> [Double] {
        try simulate(script) {
            $0.workload = Workload(Array(repeating: .read(0, length), count: reads))
            $0.workload.depth = depth
        }.finished.map { Double($0.endedAt.nanoseconds) / 1e6 }.sorted()
    }

    @Test func `a rate lets the burst pass and then so many bytes a second`() throws {
        let script = "local b = bucket { rate = \"4M\", burst = \"64K\" }\nrule { rate = b }"
        let ends = try ends(script, reads: 80)
        // 16 of 4 KiB are the burst; each of the others takes a millisecond.
        #expect(ends[15] < 0.5)
        #expect(abs(ends[16] - 0.977) < 0.1, "\(ends[16])")
        #expect(abs(ends[79] - 64 * 0.9766) < 0.2, "\(ends[79])")
    }

    @Test func `a rate of IOs counts IOs`() throws {
        let script = "local b = bucket { iops = 1000, burst = 1 }\nrule { rate = b }"
        let ends = try ends(script, reads: 11, length: 65536)
        #expect(ends[0] < 0.1)
        #expect(abs(ends[10] - 10) < 0.1, "\(ends[10])")
    }

    @Test func `rules on one line have a bucket each, whichever queue`() throws {
        let shared = SharedObjects(queues: 2)
        let text = "for i = 1, 2 do rule { rate = i * 1000, range = { i * 4096, 4096 } } end"
        let scripts = try (0..<2).map { _ in try ScriptHarness(text, shared: shared) }
        let rules = try scripts.map { try $0.script.declarations().rules }
        for index in 0..<2 {
            let rates = rules.map { $0[index].timing.bucket?.rate }
            #expect(rates == [UInt64(index + 1) * 1000, UInt64(index + 1) * 1000])
            let buckets = rules.map { $0[index].timing.bucket }
            #expect(buckets[0] == buckets[1])
            let ranges = rules.map { $0[index].range }
            #expect(ranges[0] == ranges[1] && ranges[0] != nil, "and one range")
        }
        #expect(shared.rangesNames.isEmpty, "that nobody is told of")
    }

    @Test func `a plain rate is a bucket of its own`() throws {
        let ends = try ends(
            "rule { rate = \"40M\" }\nrule { op = \"write\", rate = 1 }",
            reads: 2048
        )
        // 4 MiB are the burst; 4 more take a tenth of a second.
        #expect(abs(ends[2047] - 100) < 2, "\(ends[2047])")
    }

    @Test func `a rule that never fits takes nothing from its bucket`() throws {
        let ends = try ends("rule { op = \"write\", rate = 1 }", reads: 20)
        #expect(ends[19] < 1)
    }

    @Test func `a handler takes from a bucket and changes its rate`() throws {
        let harness = try ScriptHarness(
            """
            local b = bucket { rate = 1000, burst = 1, name = "b" }
            local same = bucket { rate = 1000, burst = 1, name = "b" }
            function ctl(what)
              if what == "slow" then return b:rate(10), b:rate(), same:rate() end
              return b:take(1), same:take(1)
            end
            """
        )
        #expect(try harness.ctl(now: 1) == "0\t1000000")
        #expect(try harness.ctl("slow") == "10\t10\t10")
        #expect(try harness.ctl(now: 1_000_000_000) == "0\t100000000")
    }

    @Test func `service times add up behind one server and share several`() throws {
        #expect(abs(try ends("rule { service = \"1ms\" }", reads: 10)[9] - 10) < 0.1)
        let four = try ends("rule { service = { time = \"1ms\", servers = 4 } }", reads: 10)
        #expect(abs(four[9] - 3) < 0.1, "\(four[9])")
        let all = try ends("rule { service = { time = \"1ms\", servers = 64 } }", reads: 10)
        #expect(abs(all[9] - 1) < 0.1, "\(all[9])")
    }

    @Test func `a delay overlaps where a service queues`() throws {
        #expect(abs(try ends("rule { delay = \"1ms\" }", reads: 10)[9] - 1) < 0.1)
    }

    @Test func `a service has a bandwidth`() throws {
        let script = "rule { service = { time = \"100us\", bandwidth = \"64M\" } }"
        let ends = try ends(script, reads: 8, length: 65536)
        #expect(abs(ends[7] - 8 * (0.1 + 0.9766)) < 0.1, "\(ends[7])")
    }

    /// How long each of these reads takes, one at a time, on a disk of 64 MiB; ms.
    private func seeks(_ service: String, at offsets: [UInt64]) throws -> [Double] {
        try simulate("rule { op = \"read\", service = { \(service) } }", settings: ["size": "64M"])
        {
            $0.workload = Workload(offsets.map { .read($0 << 20, 4096) })
            $0.workload.depth = 1
        }.finished.map { (Double($0.nanoseconds) / 1e5).rounded() / 10 }
    }

    @Test func `an arm takes its time from where the last IO was`() throws {
        let arm = "min_seek = \"1ms\", half_seek = \"9ms\", max_seek = \"17ms\""
        // Nowhere, on to where it is, an eighth of the disk, half of it, three quarters, and a quarter back.
        var requests: [SimulatedRequest] = [.read(0, 4096), .read(4096, 4096)]
        for mib in [8, 40, 0, 48, 32] as [UInt64] { requests.append(.read(mib << 20, 4096)) }
        let result = try simulate("rule { service = { \(arm) } }", settings: ["size": "64M"]) {
            $0.workload = Workload(requests)
            $0.workload.depth = 1
        }
        let times = result.finished.map { (Double($0.nanoseconds) / 1e5).rounded() / 10 }
        #expect(times == [0, 0, 5, 9, 11, 13, 6.7])
        // Without: the place costs nothing; halfway is between the two when it is not said.
        #expect(try seeks("time = 0", at: [0, 32]) == [0, 0])
        #expect(try seeks("max_seek = \"16ms\"", at: [32, 0, 63]) == [8, 8, 15.7])
    }

    @Test func `the end of the disk is far from its start`() throws {
        let arm = "max_seek = \"16ms\""
        let last: UInt64 = (64 << 20) - 4096
        let script = "rule { service = { \(arm) } }"
        let result = try simulate(script, settings: ["size": "64M"]) {
            $0.workload = Workload([.read(last), .read(last - 4096), .read(last), .read(0)])
            $0.workload.depth = 1
        }
        let times = result.finished.map { (Double($0.nanoseconds) / 1e6).rounded() }
        #expect(times == [16, 0, 0, 16])
    }

    @Test func `a year of work is the most`() throws {
        let year = "time = \"8784h\", max_seek = \"8784h\", rotation = \"8784h\", bandwidth = 1"
        let ends = try ends("rule { service = { \(year) } }", reads: 128)
        #expect(ends.allSatisfy { $0 <= 366 * 86400e3 + 1 })
    }

    @Test func `heads share an arm, and servers have one each`() throws {
        let arm = "max_seek = \"16ms\""
        // Four heads: the start of each quarter is where the arm is.
        #expect(try seeks("heads = 4, \(arm)", at: [0, 16, 32, 48]).allSatisfy { $0 < 0.3 })
        #expect(try seeks("heads = 4, \(arm)", at: [8, 16]) == [8, 8])
        // Two arms: each stays where it is needed.
        let two = try seeks("servers = 2, \(arm)", at: [0, 63, 0, 63, 0, 63])
        #expect(two[0] == 0 && two[1] > 15 && two[2...].allSatisfy { $0 < 0.2 }, "\(two)")
    }

    @Test func `a rotation follows a seek, and nothing else`() throws {
        let arm = "max_seek = 0, rotation = \"8ms\""
        let near = try seeks(arm, at: [0, 32, 0, 32])
        #expect(
            near[0] == 0 && near[1...].allSatisfy { 0...8 ~= $0 } && near[1...].contains { $0 > 0 }
        )
        let far = try seeks(
            "min_seek = 1, max_seek = 1, rotation = \"8ms\"",
            at: (0..<200).map { $0 % 2 * 32 }
        )
        #expect(far.allSatisfy { 0...8 ~= $0 } && abs(far.reduce(0, +) / 199 - 4) < 0.7, "\(far)")
    }

    @Test func `an idle service does not save time up`() throws {
        let result = try simulate(
            "rule { service = \"1ms\" }\nrule { op = \"flush\", delay = \"1s\" }"
        ) {
            $0.workload = Workload([.read(0), .read(0), .read(0)])
        }
        #expect(result.finished.allSatisfy { abs(Double($0.nanoseconds) / 1e6 - 1) < 0.05 })
    }

    @Test func `a stall holds what fits until its end`() throws {
        let result = try simulate(
            "rule { op = \"read\", nth = 3, stall = \"20ms\" }\nrule { delay = \"1ms\" }"
        ) {
            $0.workload = Workload((0..<12).map { _ in .read(0) } + [.write(0)])
            $0.workload.depth = 1
        }
        let waits = result.finished.map { (Double($0.nanoseconds) / 1e6).rounded() }
        #expect(waits == [1, 1, 21, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
        let together = try ends("rule { op = \"read\", nth = 3, stall = \"20ms\" }", reads: 10)
        #expect(together[1] < 0.1)
        #expect(together[2...].allSatisfy { abs($0 - 20) < 0.1 }, "\(together)")
    }

    @Test func `a stall may be as long as a distribution says`() throws {
        let script =
            "rule { op = \"read\", every = 10, stall = dist.uniform { min = \"1ms\", max = \"9ms\" } }"
        let result = try simulate(script) {
            $0.workload = Workload(Array(repeating: .read(0), count: 400))
            $0.workload.depth = 1
        }
        let waits = result.finished.map { Double($0.nanoseconds) / 1e6 }.filter { $0 > 0.5 }
        #expect(waits.count == 40 && waits.allSatisfy { 1...9.1 ~= $0 })
        #expect(
            abs(waits.reduce(0, +) / 40 - 5) < 1.2 && Set(waits.map { Int($0 * 100) }).count > 20
        )
    }

    @Test func `a correlated delay repeats itself, and its distribution stays`() throws {
        func delays(_ correlation: Double) throws -> [Double] {
            let script =
                "rule { op = \"read\", delay = dist.uniform { min = \"1ms\", max = \"9ms\" }, correlation = \(correlation) }"
            return try simulate(script) {
                $0.workload = Workload(Array(repeating: .read(0), count: 4000))
                $0.workload.depth = 1
            }.finished.map { (Double($0.nanoseconds) / 1e3).rounded() }
        }
        func repeats(_ list: [Double]) -> Double {
            Double(zip(list, list.dropFirst()).count { $0 == $1 }) / Double(list.count)
        }
        #expect(try repeats(delays(0)) < 0.01)
        let often = try delays(0.9)
        #expect(abs(repeats(often) - 0.9) < 0.03)
        #expect(abs(often.reduce(0, +) / 4000 - 5000) < 700, "as without")
        #expect(try repeats(delays(1)) > 0.999)
    }

    @Test func `an operation may cost more of a rate than another`() throws {
        let script = """
            local b = bucket { rate = 4096, burst = 1 }
            rule { op = "read", rate = b }
            rule { op = "write", rate = b, cost = 3 }
            """
        let result = try simulate(script) {
            $0.workload = Workload([.read(0), .write(0), .read(0)])
            $0.workload.depth = 1
        }
        #expect(result.finished.map { (Double($0.nanoseconds) / 1e8).rounded() } == [10, 30, 10])
    }

    @Test func `what a stall holds are the IOs that fit`() throws {
        let result = try simulate("rule { range = { 0, 4096 }, nth = 1, stall = \"20ms\" }") {
            $0.workload = Workload([.read(0), .read(8192), .read(0), .read(4096)])
            $0.workload.depth = 4
        }
        let late = result.finished.filter { $0.nanoseconds > 19_000_000 }
        #expect(late.count == 2 && late.allSatisfy { $0.request.offsetBytes == 0 })
    }

    @Test func `the ledger has the delay that was drawn`() throws {
        let script = "rule { delay = dist.exponential { min = 1*ms, mean = 5*ms } }"
        let result = try simulate(script) {
            $0.workload = Workload(Array(repeating: .read(0), count: 100))
        }
        let drawn = result.ledger.read(from: 0, limit: .max).records.map(\.decision.delay_ns)
        #expect(drawn == result.finished.map(\.nanoseconds))
        #expect(Set(drawn).count > 90)
    }

    @Test func `a day of a slow disk is simulated in no time`() throws {
        let script = """
            local sick = dist.mix { { 0.9, dist.lognormal { median = 2*ms, p99 = 40*ms } }, { 0.1, "2s" } }
            rule { window = { from = "45s", period = "60s" }, delay = sick }
            rule { delay = dist.lognormal { median = 90*us, p99 = 600*us } }
            rule { op = "read", delay = "800ms" }
            """
        let result = try simulate(script) {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 110_000
            $0.workload.depth = 1
            $0.keepsFinished = false
        }
        #expect(result.report.virtualSeconds > 86_400)
    }

    @Test(arguments: [
        ("rate = 0", "rate = 0"), ("rate = \"x\"", "rate = \"x\""), ("service = {}", "time"),
        ("service = { tim = 1 }", "bandwidth"), ("service = { time = 1, servers = 65 }", "1 to 64"),
        ("service = { min_seek = 1 }", "min_seek needs max_seek"),
        ("service = { max_seek = \"1ms\", half_seek = \"2ms\" }", "half_seek"),
        ("service = { max_seek = 1, heads = 0 }", "1 to 64"), ("stall = 0", "stall = 0"),
        ("delay = \"1ms\", correlation = 0.5", "needs a delay that is a distribution"),
        ("delay = dist.const(1), correlation = 1.5", "0.0 to 1.0"),
        ("error = \"EIO\", cost = 2", "needs the rate"),
        ("delay = bucket { iops = 1 }", "a bucket"),
        ("range = dist.const(1), delay = 1", "a distribution"), ("error = dist.const(1)", "one of"),
    ])
    func `what is no time is refused`(rule: String, part: String) {
        let text: String
        do {
            _ = try simulate("\nrule { \(rule) }")
            text = "accepted"
        } catch { text = "\(error)" }
        #expect(text.hasPrefix("test.lua:2: ") && text.contains(part), "\(rule): \(text)")
    }

    @Test(arguments: [
        ("bucket { rate = 1, iops = 1 }", "only one"), ("bucket { burst = 1 }", "only one"),
        ("bucket { rate = 0 }", "above 0"), ("bucket { rat = 1 }", "unknown key \"rat\""),
        ("bucket(5)", "is expected"),
    ])
    func `what is no bucket is refused`(text: String, part: String) {
        let error = loadError("\nlocal b = \(text)")
        #expect(error?.text.hasPrefix("test.lua:2: ") == true && error?.text.contains(part) == true)
    }
}
