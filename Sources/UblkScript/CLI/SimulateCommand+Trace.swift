import ArgumentParser

// `simulate --trace`: the steps of every request, as `trace` prints those of a device.

extension SimulateCommand {
    func checkTrace() throws {
        if explain, !trace {
            throw ValidationError("--explain says what the lines of --trace mean")
        }
        try TracePrinter.check(explains: explain, isJSON: json)
        if trace { try refuse("--trace", ["--bench", "--test", "--ledger"]) }
    }

    /// The lines of the trace.
    func traceLines(_ result: Simulation.Result, _ plan: LoadedScript.Plan) -> [String] {
        var printer = TracePrinter(explains: explain, isJSON: json)
        return printer.lines(steps(result, plan))
    }

    private func steps(_ result: Simulation.Result, _ plan: LoadedScript.Plan) -> [TraceStep] {
        var reader = TraceReader()
        return reader.read(
            result.queues.compactMap(\.trace),
            result.queues.map(\.ledger),
            ledgerText(plan),
            limit: .max
        ).steps
    }
}
