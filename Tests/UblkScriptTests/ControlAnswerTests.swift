import Testing

@testable import UblkScript

/// What a script's `ctl` returns, as text and as JSON; and what `stats` counts.
@Suite struct ControlAnswerTests {
    private func ctl(_ body: String, asJSON: Bool = false) throws -> String {
        let harness = try ScriptHarness("function ctl(...) \(body) end")
        return try harness.script.ctl(["a", "b"], asJSON: asJSON, now: Instant(nanoseconds: 0))
    }

    private static let values: [(body: String, text: String, json: String)] = [
        ("", "", "[]"),
        ("return ...", "a\tb", "[\"a\",\"b\"]"),
        ("return nil, true, 5, 0.5", "nil\ttrue\t5\t0.5", "[null,true,5,0.5]"),
        ("return {}", "{}", "[{}]"),
        ("return {1, \"x\", {true}}", "[1,\"x\",[true]]", "[[1,\"x\",[true]]]"),
        (
            "return {b = 1, a = {c = \"d\"}, [3] = 4}",
            "{\"3\":4,\"a\":{\"c\":\"d\"},\"b\":1}", "[{\"3\":4,\"a\":{\"c\":\"d\"},\"b\":1}]"
        ),
        ("return {1/0, 0/0}", "[null,null]", "[[null,null]]"),
        (
            "return {\"\\27[2J\\n\\\"\\\\\\xff\\u{e9}\"}",
            "[\"\\u001b[2J\\u000a\\\"\\\\\\ufffd\u{e9}\"]",
            "[[\"\\u001b[2J\\u000a\\\"\\\\\\ufffd\u{e9}\"]]"
        ),
    ]

    @Test(arguments: values)
    func `ctl tells what is in a table`(body: String, text: String, json: String) throws {
        #expect(try ctl(body) == text)
        #expect(try ctl(body, asJSON: true) == json)
    }

    private static let refused: [(String, String)] = [
        ("local t = {} t.t = t return t", "in each other, or nest more than 16 deep"),
        ("return (\"x\"):rep(70000)", "the answer is longer than 64 KiB"),
        ("local t = {} for i = 1, 40000 do t[i] = i end return t", "longer than 64 KiB"),
    ]

    @Test(arguments: refused)
    func `an answer that cannot be told whole is an error`(body: String, message: String) throws {
        for asJSON in [false, true] {
            do {
                _ = try ctl(body, asJSON: asJSON)
                Issue.record("\(body) is refused")
            } catch let error as ScriptError {
                #expect(error.text.contains(message), "\(error.text)")
            }
        }
    }

    @Test func `times are counted by operation, with what they moved`() throws {
        let times = IOTimes()
        for nanoseconds in [0, 1000, 1024, 5000, 2_000_000] as [UInt64] {
            times.writer.add(IOOp.write.rawValue, nanoseconds: nanoseconds, bytes: 4096)
        }
        times.writer.add(77, nanoseconds: .max, bytes: 0)
        let counters = QueueCounters()
        counters.add(.write)
        let all = DeviceStatistics.operations([(counters, times), (counters, times)])
        #expect(
            all.map(\.operation) == ["read", "write", "flush", "discard", "other", "write_zeroes"]
        )
        let write = all[1]
        #expect(write.count == 2 && write.ended == 10 && write.bytes == 10 * 4096)
        #expect(write.nanoseconds == 2 * 2_007_024 && write.maxNanoseconds == 2_000_000)
        #expect((1024...1152).contains(write.medianNanoseconds))
        #expect(write.latency.first == .init(leNanoseconds: 1024, count: 4))
        #expect(write.latency.last == .init(leNanoseconds: 1 << 36, count: 10))
        #expect(all[4].ended == 2 && all[4].maxNanoseconds == .max)
        #expect(all[0].ended == 0 && all[0].latency.allSatisfy { $0.count == 0 })
    }

    @Test func `a queue counts how long it had an IO`() throws {
        let result = try simulate(
            "rule { op = \"write\", delay = \"5ms\" } rule { op = \"read\", error = \"EIO\" }"
        ) {
            $0.workload = Workload([.write(0), .read(0)])
        }
        let operations = DeviceStatistics.operations([(result.counters, result.times)])
        #expect(operations[1].maxNanoseconds == 5_000_000 && operations[1].bytes == 4096)
        #expect(operations[0].ended == 1 && operations[0].bytes == 0, "it failed")
    }

    @Test func `Prometheus gets each metric once, with its labels`() throws {
        let times = IOTimes()
        times.writer.add(0, nanoseconds: 2_000_000, bytes: 512)
        let device = DeviceStatistics(
            id: 3,
            path: "/dev/ublkb3",
            script: "a.lua",
            seed: 1,
            operations: DeviceStatistics.operations([(QueueCounters(), times)]),
            counters: ["failed": 2, "held_now": 1],
            rules: [RuleReport(line: 4, name: "a\"b", isOn: true, acted: 5)]
        )
        let lines = PrometheusText([device, device]).text.split(separator: "\n").map(String.init)
        for line in [
            "# TYPE ublk_script_latency_seconds histogram",
            "ublk_script_latency_seconds_bucket{device=\"ublkb3\",operation=\"read\",le=\"0.004194304\"} 1",
            "ublk_script_latency_seconds_bucket{device=\"ublkb3\",operation=\"read\",le=\"+Inf\"} 1",
            "ublk_script_latency_seconds_sum{device=\"ublkb3\",operation=\"read\"} 0.002",
            "ublk_script_bytes_total{device=\"ublkb3\",operation=\"read\"} 512",
            "ublk_script_events_total{device=\"ublkb3\",event=\"failed\"} 2",
            "ublk_script_waiting_ios{device=\"ublkb3\",why=\"held\"} 1",
            "ublk_script_rule_acted_total{device=\"ublkb3\",rule=\"a\\\"b\",line=\"4\"} 5",
        ] { #expect(lines.contains(line), "\(line)") }
        let kinds = lines.filter { $0.hasPrefix("# TYPE ") }
        #expect(Set(kinds).count == kinds.count && kinds.count == 6)
        #expect(PrometheusText([]).text.isEmpty)
    }

    @Test func `stats for people has columns within 80`() throws {
        let times = IOTimes()
        times.writer.add(0, nanoseconds: 1_950_000_000, bytes: 1 << 40)
        let statistics = DeviceStatistics(
            id: 3,
            path: "/dev/ublkb3",
            script: "a.lua",
            seed: 1,
            operations: DeviceStatistics.operations([(QueueCounters(), times)]),
            counters: DeviceStatistics.counters([QueueCounters()]),
            rules: [RuleReport(line: 4, isOn: false, acted: 5)]
        )
        let lines = StatisticsText(statistics).text.split(separator: "\n")
        #expect(lines.allSatisfy { $0.count <= 80 })
        #expect(
            lines[2].split(separator: " ") == [
                "read", "0", "1", "TiB", "1.95", "s", "1.95", "s", "1.95", "s",
            ]
        )
        #expect(lines.last?.split(separator: " ") == ["-", "4", "off", "5"])
    }
}
