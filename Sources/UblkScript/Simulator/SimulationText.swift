/// A ``SimulationReport`` for people: a few lines, each a fact.
struct SimulationText {
    private let report: SimulationReport

    init(_ report: SimulationReport) { self.report = report }

    var text: String {
        var lines = [
            "\(report.script): seed \(report.seed), \(Quantity.text(bytes: report.sizeBytes)) "
                + "\(report.backing), "
                + (report.queues.map { "\($0) queues, " } ?? "") + "depth \(report.depth)"
        ]
        if let run = report.suggestedRun { lines.append(line("as", "the script suggests: \(run)")) }
        lines.append(line("requests", "\(report.requestCount): " + list(report.requests)))
        lines.append(
            line(
                "time",
                "\(Self.seconds(report.virtualSeconds)) virtual; the server kept a request for "
                    + Rounded.time(report.latency.medianNanoseconds) + " (median), "
                    + Rounded.time(report.latency.p99Nanoseconds) + " (p99), "
                    + Rounded.time(report.latency.maxNanoseconds) + " (longest)"
            )
        )
        lines.append(line("plot", "|\(ThroughputCounts.plot(report.throughput.requests))|"))
        lines.append(line("", columns))
        lines.append(line("script", script))
        for rule in report.rules {
            let name = rule.name.isEmpty ? "rule" : "rule \(rule.name)"
            lines.append(line("", "\(name) of line \(rule.line): acted \(rule.acted) times"))
        }
        lines.append(line("errors", report.errors.isEmpty ? "none" : list(report.errors)))
        lines.append(line("data", data))
        if let atEnd { lines.append(line("at end", atEnd)) }
        if let lost = report.powerLoss {
            let text =
                "\(lost.differing) blocks lost that a flush or FUA had made durable"
            lines.append(line("power", text + ": " + Self.kinds(lost)))
        }
        if report.scriptErrors.count > 0 {
            let count = report.scriptErrors.count
            lines.append(line("raised", count == 1 ? "once" : "\(count) times"))
            lines += report.scriptErrors.texts.map { line("", $0) }
        }
        if let end { lines.append(line("ended", end)) }
        return lines.map { Wrap.text($0) }.joined(separator: "\n")
    }

    /// What a column of the plot is.
    private var columns: String {
        let width = report.throughput.columnNanoseconds
        let most = Double(report.throughput.requests.max() ?? 0) * 1e9 / Double(width)
        return "\(Rounded.time(width)) a column, at most \(Int(most.rounded())) requests a second"
    }

    private var script: String {
        guard report.actions.isEmpty else { return list(report.actions) }
        return report.rules.allSatisfy { $0.acted == 0 }
            ? "let everything pass" : "rules acted, no request ended otherwise for it"
    }

    private var data: String {
        guard let data = report.data else { return "not compared (a null backing keeps none)" }
        return Self.text(data, "\(data.reads) reads compared, \(data.blocks) blocks")
    }

    /// The state of the device at the end; nil when there is nothing to say.
    private var atEnd: String? {
        guard let readBack = report.readBack else {
            let isLeftOut = report.data != nil && report.end != .finished
            return isLeftOut ? "what was written was not read back" : nil
        }
        guard readBack.blocks + readBack.unread > 0 else { return nil }
        let text = Self.text(readBack, "\(readBack.blocks) blocks written and read back")
        guard readBack.unread > 0 else { return text }
        return "\(text); \(readBack.unread) more could not be read, as the script raised"
    }

    private static func text(_ data: DataCheck, _ checked: String) -> String {
        guard data.differing > 0 else { return checked + ", all as last acknowledged" }
        return checked + "; \(data.differing) differ from the last acknowledged write: "
            + kinds(data)
    }

    /// What the blocks hold that differ.
    private static func kinds(_ data: DataCheck) -> String {
        [
            (data.stale, "older"), (data.zeroes, "zeroes"), (data.foreign, "of another place"),
            (data.torn, "mixed"), (data.corrupt, "corrupt"),
        ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
    }

    /// The reason for the end; nil for the usual end.
    private var end: String? {
        switch report.end {
        case .finished: nil
        case .held:
            "\(report.heldForEver) requests were held for ever, until the device was stopped; "
                + "\(report.requestCount) \(report.requestsWanted.map { "of \($0) " } ?? "")were made"
        case .stopped: "early: on_error = \"stop\" and the script raised"
        case .interrupted:
            "early: interrupted; \(report.requestCount) requests were made"
        }
    }

    private func list(_ counts: [SimulationReport.Count]) -> String {
        counts.map { "\($0.name) \($0.count)" }.joined(separator: ", ")
    }

    private func line(_ name: String, _ text: String) -> String {
        "  " + name + String(repeating: " ", count: max(1, 10 - name.count)) + text
    }

    private static func seconds(_ seconds: Double) -> String {
        "\((seconds * 1000).rounded() / 1000) s"
    }
}
