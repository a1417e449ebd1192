import ArgumentParser

/// `check SCRIPT`: loads a script and prints what it declares, without root or a driver.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Load a script and say what device it declares.",
        discussion: """
            The script is loaded as add and simulate do, within the limits that it sets itself. What can \
            never act is a warning: a rule for an operation that does not arrive or behind one that ends \
            every search, a function whose name is nearly a handler's, a file that is too small.
            """
    )

    @OptionGroup var options: ScriptOptions

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let overrides = try options.overrides()
        _ = try options.id()
        try options.checkQueues(overrides)
        do {
            let source = try options.source()
            let plan = try LoadedScript.plan(source, overrides: overrides)
            try plan.rehearse()
            let summary = ScriptSummary(plan)
            Output.line(json ? JSON.text(summary) : summary.text)
        } catch { throw Failure(error) }
    }
}

/// The result of `check`, as text and JSON.
struct ScriptSummary: Codable {
    struct Parameter: Codable {
        let name: String
        let value: String
    }

    struct RuleSummary: Codable {
        let line: Int32
        /// The rule's name; "" without one.
        let name: String
        /// The rule's keys and values.
        let text: String
    }

    let script: String
    /// Size of the device in bytes; nil: the size of the file.
    let sizeBytes: UInt64?
    let backing: String
    let file: String?
    let queues: UInt16
    let depth: UInt16
    let maxIOBytes: UInt32
    let parameters: [Parameter]
    let rules: [RuleSummary]
    let handlers: [String]
    let hasControl: Bool
    let warnings: [ScriptFinding]

    init(_ plan: LoadedScript.Plan) {
        let config = plan.config
        script = plan.source.path
        sizeBytes = config.sizeBytes
        backing = config.backing.rawValue
        file = config.file
        queues = config.queues
        depth = config.depth
        maxIOBytes = config.maxIOBytes
        parameters = plan.parameters.map { Parameter(name: $0.key, value: $0.plainText) }
        rules = zip(plan.rules, plan.ruleTexts).map { label, text in
            RuleSummary(line: label.line, name: label.name, text: text)
        }
        handlers = IOOp.allCases.filter { plan.handlers & $0.bit != 0 }.map(\.name)
        hasControl = plan.hasControl
        warnings = plan.findings
    }

    var text: String {
        let size = sizeBytes.map { Quantity.text(bytes: $0) } ?? "size of the file"
        let count = warnings.count == 1 ? "1 warning" : "\(warnings.count) warnings"
        var lines = [
            "\(script): \(warnings.isEmpty ? "ok" : "loads, with \(count)")",
            "  device: \(size), backing \(backing)\(file.map { " " + $0 } ?? "")",
            "  queues \(queues), depth \(depth), max io \(Quantity.text(bytes: UInt64(maxIOBytes)))",
        ]
        if !parameters.isEmpty {
            let values = parameters.map { "\($0.name)=\($0.value)" }
            lines.append("  parameters: \(values.joined(separator: " "))")
        }
        lines.append("  rules: \(rules.count)")
        lines += rules.map { "    line \($0.line): \($0.text)" }
        lines.append("  handlers: \(handlers.isEmpty ? "none" : handlers.joined(separator: " "))")
        lines.append("  ctl: \(hasControl ? "yes" : "no")")
        lines += warnings.map { "  warning: \($0.origin): \($0.text)" }
        return lines.map { Wrap.text($0, hanging: 2) }.joined(separator: "\n")
    }
}
