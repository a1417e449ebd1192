import ArgumentParser

/// What a script says of a run that shows what it does, in place of what the command line leaves open.
extension SimulateCommand {
    /// - Parameter words: as on the command line: options about the workload, and settings.
    /// - Throws: ``Failure`` when they are none.
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

    /// What `--allow` names.
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
