/// ``DeviceStatistics`` as text in columns.
struct StatisticsText {
    private let statistics: DeviceStatistics

    init(_ statistics: DeviceStatistics) { self.statistics = statistics }

    var text: String {
        ([Style.heading.paint("\(statistics.path) \(statistics.script) seed \(statistics.seed)")]
            + operations.lines + counters.lines + rules).joined(separator: "\n")
    }

    private var operations: TextTable {
        var table = TextTable(
            [.left] + Array(repeating: .right, count: 5),
            heading: ["operation", "IOs", "moved", "median", "p99", "longest"]
        )
        for operation in statistics.operations {
            let times = [
                operation.medianNanoseconds, operation.p99Nanoseconds, operation.maxNanoseconds,
            ].map { operation.ended == 0 ? "-" : Rounded.time($0) }
            table.add(
                [operation.operation, "\(operation.count)", Rounded.bytes(operation.bytes)] + times
            )
        }
        return table
    }

    private var counters: TextTable {
        var table = TextTable([.left, .right])
        for (name, _) in QueueCounters.named() {
            guard let count = statistics.counters[name] else { continue }
            table.add([name, "\(count)"])
        }
        return table
    }

    private var rules: [String] {
        statistics.rules.isEmpty ? [] : Self.table(statistics.rules).lines
    }

    static func table(_ rules: [RuleReport]) -> TextTable {
        var table = TextTable(
            [.left, .right, .left, .right],
            heading: ["rule", "line", "state", "acted"]
        )
        for rule in rules {
            table.add([rule.name ?? "-", "\(rule.line)", rule.isOn ? "on" : "off", "\(rule.acted)"])
        }
        return table
    }
}

/// Statistics in the text exposition format of Prometheus.
///
/// Each metric occurs once, with samples of all devices; times are in seconds, as its conventions demand.
struct PrometheusText {
    private let devices: [DeviceStatistics]

    init(_ devices: [DeviceStatistics]) { self.devices = devices }

    var text: String {
        (ios + bytes + latency + counters + waiting + rules).map { $0 + "\n" }.joined()
    }

    private func metric(_ name: String, _ kind: String, _ help: String, _ samples: [String])
        -> [String]
    {
        samples.isEmpty
            ? []
            : ["# HELP ublk_script_\(name) \(help)", "# TYPE ublk_script_\(name) \(kind)"]
                + samples.map { "ublk_script_\(name)\($0)" }
    }

    private func labels(_ device: DeviceStatistics, _ more: [(String, String)] = []) -> String {
        let all = [("device", String(device.path.dropFirst("/dev/".count)))] + more
        return "{" + all.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",") + "}"
    }

    private static func escaped(_ text: String) -> String {
        // By scalars, as a quote with a combining accent, or "\r\n", is one Character.
        String(
            text.unicodeScalars.reduce(into: String.UnicodeScalarView()) { result, scalar in
                switch scalar {
                case "\\": result.append(contentsOf: "\\\\".unicodeScalars)
                case "\"": result.append(contentsOf: "\\\"".unicodeScalars)
                case "\n": result.append(contentsOf: "\\n".unicodeScalars)
                default: result.append(scalar)
                }
            }
        )
    }

    private func perOperation(
        _ value: (DeviceStatistics.Operation) -> UInt64
    ) -> [String] {
        devices.flatMap { device in
            device.operations.map {
                "\(labels(device, [("operation", $0.operation)])) \(value($0))"
            }
        }
    }

    private var ios: [String] {
        metric("ios_total", "counter", "IOs that arrived.", perOperation(\.count))
    }

    private var bytes: [String] {
        metric("bytes_total", "counter", "Bytes that IOs moved.", perOperation(\.bytes))
    }

    private var latency: [String] {
        let name = "latency_seconds"
        let samples = devices.flatMap { device in
            device.operations.flatMap { operation in
                histogram(device, operation)
            }
        }
        guard !samples.isEmpty else { return [] }
        return [
            "# HELP ublk_script_\(name) Time from an IO's arrival to its answer.",
            "# TYPE ublk_script_\(name) histogram",
        ] + samples.map { "ublk_script_\(name)_\($0)" }
    }

    private func histogram(
        _ device: DeviceStatistics,
        _ operation: DeviceStatistics.Operation
    ) -> [String] {
        func labels(_ le: String?) -> String {
            self.labels(
                device,
                [("operation", operation.operation)] + (le.map { [("le", $0)] } ?? [])
            )
        }
        let buckets = operation.latency.map {
            "bucket\(labels(Self.seconds($0.leNanoseconds))) \($0.count)"
        }
        return buckets + [
            "bucket\(labels("+Inf")) \(operation.ended)",
            "sum\(labels(nil)) \(Self.seconds(operation.nanoseconds))",
            "count\(labels(nil)) \(operation.ended)",
        ]
    }

    private static func seconds(_ nanoseconds: UInt64) -> String { "\(Double(nanoseconds) / 1e9)" }

    private static let moments: Set<String> = ["delayed_now", "held_now"]

    private var counters: [String] {
        let samples = devices.flatMap { device in
            device.counters.filter { !Self.moments.contains($0.key) }.sorted { $0.key < $1.key }
                .map { "\(labels(device, [("event", $0.key)])) \($0.value)" }
        }
        return metric("events_total", "counter", "What was done to IOs.", samples)
    }

    private var waiting: [String] {
        let samples = devices.flatMap { device in
            device.counters.filter { Self.moments.contains($0.key) }.sorted { $0.key < $1.key }
                .map { "\(labels(device, [("why", String($0.key.dropLast(4)))])) \($0.value)" }
        }
        return metric("waiting_ios", "gauge", "IOs that wait at this moment.", samples)
    }

    /// Rules with the same name and line, as a loop in a script makes them, are summed into one series.
    private var rules: [String] {
        let samples = devices.flatMap { device in
            var all: [String] = []
            var sums: [String: UInt64] = [:]
            for rule in device.rules {
                let series = labels(device, [("rule", rule.name ?? ""), ("line", "\(rule.line)")])
                if sums[series] == nil { all.append(series) }
                sums[series, default: 0] += rule.acted
            }
            return all.map { "\($0) \(sums[$0, default: 0])" }
        }
        return metric("rule_acted_total", "counter", "IOs that a rule acted on.", samples)
    }
}
