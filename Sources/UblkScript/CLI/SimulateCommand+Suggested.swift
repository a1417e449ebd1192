import ArgumentParser

// Options of `simulate` that a script suggests in its first comment (`-- Simulate: ...`).

extension SimulateCommand {
    /// This command, with the suggested options where the command line has none.
    ///
    /// - Parameter words: the suggestion, as on the command line: options about the workload, and settings.
    /// - Throws: ``Failure`` when it cannot be parsed.
    func completed(by words: [String]) throws -> SimulateCommand {
        guard !words.isEmpty, !test, !bench else { return self }
        let suggested: SimulateCommand
        do { suggested = try SimulateCommand.parse(["script"] + words) } catch {
            throw Failure(
                "\(options.scriptWord ?? "the script"): \"-- Simulate: \(words.joined(separator: " "))\" in its first comment: "
                    + SimulateCommand.message(for: error)
            )
        }
        var result = self
        result.allow = allow ?? suggested.allow
        guard workload == nil else { return result }
        if ops == nil, time == nil { (result.ops, result.time) = (suggested.ops, suggested.time) }
        result.rate = rate ?? suggested.rate
        result.rw = rw ?? suggested.rw
        result.bs = bs ?? suggested.bs
        let given = try Set(options.overrides().map(\.key))
        for setting in suggested.options.settings
        where try !given.contains(Setting(argument: setting).key) {
            result.options.settingWords.append(setting)
        }
        return result
    }

    /// Parses `--allow`.
    func allowedProblems() throws -> Set<SimulationReport.Problem> {
        guard let allow else { return [] }
        return Set(
            try allow.split(separator: ",", omittingEmptySubsequences: false).map { word in
                guard let problem = SimulationReport.Problem(rawValue: String(word)) else {
                    let names = SimulationReport.Problem.allCases.map(\.rawValue)
                    throw ValidationError(
                        "--allow \(allow): \(names.joined(separator: ", ")), or both with a comma between, is expected"
                    )
                }
                return problem
            }
        )
    }
}
