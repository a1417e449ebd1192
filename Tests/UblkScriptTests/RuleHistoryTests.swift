import CLua
import Testing

@testable import UblkScript

/// Rules that look at what was before: `seen`, `age`, and `run`.
@Suite struct RuleHistoryTests {
    private func outcomes(
        _ rule: String,
        _ requests: [SimulatedRequest]
    ) throws -> [String] {
        try simulate("rule { \(rule) }") {
            $0.workload = Workload(requests)
            $0.workload.depth = 1
        }.outcomes
    }

    // MARK: seen

    @Test func `the nth access of the same place is seen, and no other`() throws {
        let reads = Array(repeating: SimulatedRequest.read(4096), count: 4)
        let rule = "op = \"read\", error = \"EIO\", seen ="
        #expect(try outcomes("\(rule) 1", reads) == ["EIO", "", "", ""])
        #expect(try outcomes("\(rule) 3", reads) == ["", "", "EIO", ""])
        #expect(try outcomes("\(rule) 5", reads) == ["", "", "", ""])
        #expect(
            try outcomes("\(rule) 1", [.read(0), .read(4096), .read(0), .read(8192)])
                == ["EIO", "EIO", "", "EIO"]
        )
    }

    @Test func `an IO counts for all it touches, and only if it fits`() throws {
        let rule = "op = \"read\", error = \"EIO\", seen = 2"
        #expect(
            try outcomes(rule, [.read(0, 16384), .read(16384), .read(12288, 8192), .write(0)])
                == ["", "", "EIO", ""]
        )
        #expect(try outcomes(rule, [.write(0), .read(0), .read(512, 512)]) == ["", "", "EIO"])
        let short = "op = \"read\", len = 4096, seen = 1, error = \"EIO\""
        #expect(try outcomes(short, [.read(0, 8192), .read(0), .read(0)]) == ["", "EIO", ""])
    }

    @Test func `counts end at 255 and do not begin again`() throws {
        let reads = Array(repeating: SimulatedRequest.read(0), count: 600)
        #expect(
            try outcomes("op = \"read\", seen = 255, error = \"EIO\"", reads).firstIndex(of: "EIO")
                == 254
        )
        #expect(
            try outcomes("op = \"read\", seen = 1, error = \"EIO\"", reads).filter { $0 != "" }
                == ["EIO"]
        )
    }

    // MARK: age

    @Test func `data is as old as its last write`() throws {
        let script = """
            rule { op = "read", age = "1s", error = "ENODATA" }
            rule { op = "flush", delay = "600ms" }
            """
        let result = try simulate(script, settings: ["cache": "volatile"]) {
            $0.workload = Workload([
                .read(0), .write(0), .flush, .read(0), .read(4096), .flush, .read(0), .read(8192),
                .write(0, 4096), .read(0), .read(0, 8192),
            ])
            $0.workload.depth = 1
        }
        // What nobody wrote is as old as the device.
        #expect(
            result.outcomes == [
                "", "", "", "", "", "", "ENODATA", "ENODATA", "", "", "ENODATA",
            ]
        )
    }

    @Test func `a discard makes data young too`() throws {
        let script = """
            rule { op = "read", age = "500us", error = "EIO" }
            rule { op = "write", delay = "1ms" }
            """
        let result = try simulate(script) {
            $0.workload = Workload([
                .write(65536), .read(0), .discard(0), .read(0), .writeZeroes(4096), .read(4096),
            ])
            $0.workload.depth = 1
        }
        #expect(result.outcomes == ["", "EIO", "", "", "", ""])
    }

    // MARK: run

    @Test func `a run goes on for as many IOs as it says`() throws {
        let reads = Array(repeating: SimulatedRequest.read(0), count: 8)
        #expect(
            try outcomes("op = \"read\", nth = 2, run = 3, error = \"EIO\"", reads)
                == ["", "EIO", "EIO", "EIO", "", "", "", ""]
        )
        // Those of a run are not counted, and times has the last word.
        #expect(
            try outcomes("op = \"read\", every = 2, run = 2, times = 3, error = \"EIO\"", reads)
                == ["", "EIO", "EIO", "", "EIO", "", "", ""]
        )
        #expect(
            try outcomes("op = \"read\", nth = 2, run = 1, error = \"EIO\"", reads).filter {
                $0 != ""
            }.count == 1
        )
    }

    @Test func `chance begins runs, and what fits goes on with them`() throws {
        let result = try simulate("rule { op = \"read\", p = 0.01, run = 10, error = \"EIO\" }") {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 20000
            $0.workload.depth = 1
        }
        let failed = result.outcomes.map { $0 == "EIO" }
        let begins = zip(failed, failed.dropFirst()).count { !$0 && $1 }
        let all = failed.count { $0 }
        #expect(abs(Double(all) / Double(begins) - 10) < 1.5, "\(all) in \(begins) runs")
        #expect(abs(Double(begins) - 20000 * 0.01 / 1.1) < 60, "\(begins)")
    }

    @Test(arguments: [
        ("seen = 0", "1 to 255"), ("seen = 256", "1 to 255"), ("age = 0", "age"),
        ("run = 0", "run"), ("run = 2000000", "1 to 1000000"),
    ])
    func `what cannot be is refused`(rule: String, part: String) {
        let error = #expect(throws: (any Error).self) {
            try simulate("rule { \(rule), error = \"EIO\" }")
        }
        #expect("\(error.map { "\($0)" } ?? "")".contains(part), "\(rule)")
    }

    @Test func `tables are forgotten when they are asked for anew, and shared otherwise`() throws {
        let shared = SharedObjects(queues: 2)
        let counts = try #require(shared.counts(rule: 1, bank: 0, deviceBytes: 1 << 40))
        #expect(counts.count(offset: 1 << 39, length: 4096, nth: 1))
        #expect(!counts.count(offset: 1 << 39, length: 4096, nth: 1))
        #expect(shared.counts(rule: 1, bank: 0, deviceBytes: 1 << 40) == counts)
        #expect(counts.count(offset: 1 << 39, length: 4096, nth: 1))
        let times = try #require(shared.writeTimes(deviceBytes: 1 << 40))
        times.write(offset: 8192, length: 4096, time: 5)
        #expect(shared.writeTimes(deviceBytes: 1 << 40) == times)
        #expect(times.age(offset: 8192, length: 4096, time: 7) == 2)
        // Behind the end that the device can have, and nothing at all.
        let end = DeviceConfig.reachBytes(of: 1 << 40)
        #expect(!counts.count(offset: end, length: 4096, nth: 1))
        #expect(!counts.count(offset: 0, length: 0, nth: 1))
    }
}
