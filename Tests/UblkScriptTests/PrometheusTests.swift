import Testing

@testable import UblkScript

/// `stats --prometheus`, read as strictly as the format's description allows.
@Suite struct PrometheusTests {
    private static func statistics(
        _ number: UInt32,
        _ rules: [RuleReport],
        times: [UInt64] = [0, 1500, 5000, 70_000_000_000]
    ) -> DeviceStatistics {
        let own = IOTimes()
        for time in times { own.writer.add(0, nanoseconds: time, bytes: 4096) }
        return DeviceStatistics(
            id: number,
            path: "/dev/ublkb\(number)",
            script: "faulty.lua",
            seed: 7,
            operations: DeviceStatistics.operations([(QueueCounters(), own)]),
            counters: DeviceStatistics.counters([QueueCounters()]),
            rules: rules
        )
    }

    private static func rule(_ name: String?, line: Int32 = 3, acted: UInt64 = 2) -> RuleReport {
        RuleReport(line: line, name: name, isOn: true, acted: acted)
    }

    @Test func `everything is there, once, for each device`() throws {
        let text = PrometheusText([
            Self.statistics(0, [Self.rule("bad")]), Self.statistics(1, [Self.rule(nil)]),
        ]).text
        let exposition = try Exposition(text)
        #expect(
            exposition.types == [
                "ublk_script_ios_total": "counter", "ublk_script_bytes_total": "counter",
                "ublk_script_latency_seconds": "histogram", "ublk_script_events_total": "counter",
                "ublk_script_waiting_ios": "gauge", "ublk_script_rule_acted_total": "counter",
            ]
        )
        let read = ["device": "ublkb1", "operation": "read"]
        #expect(exposition.value("ublk_script_bytes_total", read) == 16384)
        #expect(exposition.value("ublk_script_latency_seconds_count", read) == 4)
        #expect(
            exposition.value("ublk_script_latency_seconds_sum", read) == 70.0000065
        )
        for (le, count) in [("1.024e-06", 1), ("4.096e-06", 2), ("68.719476736", 3), ("+Inf", 4)] {
            #expect(
                exposition.value(
                    "ublk_script_latency_seconds_bucket",
                    read.merging(["le": le]) { $1 }
                ) == Double(count),
                "\(le)"
            )
        }
        #expect(
            exposition.value("ublk_script_waiting_ios", ["device": "ublkb0", "why": "held"]) == 0
        )
        let labels = ["device": "ublkb1", "rule": "", "line": "3"]
        #expect(exposition.value("ublk_script_rule_acted_total", labels) == 2)
        #expect(try Exposition(PrometheusText([]).text).types.isEmpty)
    }

    @Test(arguments: [
        "a\"b", "a\\b", "a\\", "a\nb", "a\r\nb", "\"\u{301}", "\\\u{301}", "\u{e9}{}",
    ])
    func `a name is escaped, and comes back as it was`(name: String) throws {
        let exposition = try Exposition(
            PrometheusText([Self.statistics(0, [Self.rule(name)])]).text
        )
        let labels = ["device": "ublkb0", "rule": name, "line": "3"]
        #expect(exposition.value("ublk_script_rule_acted_total", labels) == 2)
    }

    @Test func `rules that cannot be told apart are one series`() throws {
        // As a loop of the script makes them.
        let rules = [
            Self.rule("bad", acted: 2), Self.rule("bad", acted: 5), Self.rule(nil, acted: 1),
            Self.rule("bad", line: 4, acted: 8),
        ]
        let exposition = try Exposition(PrometheusText([Self.statistics(0, rules)]).text)
        func acted(_ rule: String, _ line: String) -> Double? {
            let labels = ["device": "ublkb0", "rule": rule, "line": line]
            return exposition.value("ublk_script_rule_acted_total", labels)
        }
        #expect(acted("bad", "3") == 7 && acted("", "3") == 1 && acted("bad", "4") == 8)
    }

    @Test(arguments: [
        "a 1", "# TYPE a counter\na 1\na 2\n", "# TYPE a counter\na{x=\"1\",x=\"2\"} 1\n",
        "# TYPE a counter\na{x=\"1} 1\n", "# TYPE a counter\na{x=\"\\q\"} 1\n", "a 1\n",
        "# TYPE a counter\n# TYPE a counter\na 1\n", "# TYPE a counter\na one\n",
        "# TYPE a counter\n# TYPE b counter\na 1\nb 1\n", "# TYPE 1a counter\n1a 1\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 1\n",
        "# TYPE a counter\n# HELP a b\n# HELP a b\na 1\n", "# TYPE a counter\na 1\n\n",
    ])
    func `the reader of these tests takes nothing else`(text: String) {
        #expect(throws: Exposition.Problem.self, "\(text)") { try Exposition(text) }
    }
}
