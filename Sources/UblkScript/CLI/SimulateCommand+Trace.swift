import ArgumentParser

// `simulate --trace`: the steps of every request, as `trace` prints those of a device.

extension SimulateCommand {
    func checkTrace() throws {
        if explain, !trace {
            throw ValidationError("--explain says what the lines of --trace mean")
        }
        if output != nil, !trace { throw ValidationError("--output takes the steps of --trace") }
        let printsJSON = json && output == nil
        try TracePrinter.check(explains: explain, isJSON: printsJSON, output, opens: open)
        if trace { try refuse("--trace", ["--bench", "--test", "--ledger"]) }
    }

    /// The lines of the trace.
    func traceLines(_ result: Simulation.Result, _ plan: LoadedScript.Plan) throws -> [String] {
        var printer = try TracePrinter(explains: explain, isJSON: json, output)
        return try printer.lines(steps(result, plan))
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
