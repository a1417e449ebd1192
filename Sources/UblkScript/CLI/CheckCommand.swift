import ArgumentParser

/// `check SCRIPT`: loads a script and says what it would do, without root or a driver.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Load a script and say what device it declares."
    )

    @OptionGroup var options: ScriptOptions

    func run() throws {
        let overrides = try options.overrides()
        _ = try options.id()
        do {
            let source = try ScriptSource(named: options.script)
            let plan = try LoadedScript.plan(source, overrides: overrides)
            let config = plan.config
            let size = config.sizeBytes.map { Quantity.text(bytes: $0) } ?? "size of the file"
            let handlers = IOOp.allCases.filter { plan.handlers & $0.bit != 0 }.map(\.name)
            Output.line("\(source.path): ok")
            Output.line(
                "  device: \(size), backing \(config.backing.rawValue)\(config.file.map { " " + $0 } ?? "")"
            )
            Output.line(
                "  queues \(config.queues), depth \(config.depth), max io \(Quantity.text(bytes: UInt64(config.maxIOBytes)))"
            )
            if !plan.parameters.isEmpty {
                let values = plan.parameters.map { "\($0.key)=\($0.plainText)" }
                Output.line("  parameters: \(values.joined(separator: " "))")
            }
            Output.line("  rules: \(plan.ruleCount)")
            Output.line(
                "  handlers: \(handlers.isEmpty ? "none" : handlers.joined(separator: " "))"
            )
            Output.line("  ctl: \(plan.hasControl ? "yes" : "no")")
        } catch { throw Failure(error) }
    }
}
