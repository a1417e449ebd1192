import Logging
import SystemPackage

/// `reload`: replaces the script of a running device.
///
/// Main thread. Two phases: each queue in turn loads the new script beside the one that runs, and only when all have
/// succeeded do they adopt it. When one fails, all discard it and the device goes on unchanged.
extension DeviceServer {
    /// Time limit of a queue's load: a script's load phase is interrupted after 5 s, and may wait for another one.
    private static let prepareSeconds = 10.0

    /// Reloads the script.
    ///
    /// The settings that the device was added with stay: all of them for the same script, only those of `device{}` for
    /// another one.
    func reload(_ wanted: ReloadRequest) -> AdminAnswer {
        do {
            var source = wanted.source
            // Relative paths are relative to the folder of `add`, not of `reload`.
            source.directory = request.source.directory
            let settings = ReloadSettings(
                source,
                isOther: wanted.isOther,
                running: request.overrides,
                new: wanted.settings,
                sizeBytes: sizeBytes
            )
            var plan = try planAside(source, settings.planned)
            try check(plan, settings.new)
            plan.config = plan.config.fitted(to: self.plan.config)
            number(&plan)
            let counters = try makeCounters(plan, after: ruleCounters)
            counters.lookForTriggers(plan.rules)
            let reload = ScriptReload(plan: plan, counters: counters, logFD: lines.writeFD)
            if plan.needsWatchdog { try startWatchdog() }
            try prepare(reload)
            adopt(reload, overrides: settings.remembered)
            logger.info("reloaded: script \(plan.source.path), \(plan.ruleCount) rules")
            return .done("")
        } catch {
            request.state.removeCounters(of: id, bank: 1 - plan.bank)
            logger.warning("reload failed, the script that ran goes on: \(error)")
            return .refused(AdminRefusal("\(error)"))
        }
    }

    /// Makes the plan on a separate thread, so that a script stuck in a C function does not block the main thread.
    ///
    /// The command has loaded the script before it sent it, so this only happens when the script's behaviour depends
    /// on something that has changed meanwhile. A stuck thread cannot be ended; no further reload is possible then.
    private func planAside(_ source: ScriptSource, _ overrides: [Setting]) throws
        -> LoadedScript.Plan
    {
        guard !isLoaderStuck else {
            throw DeviceError.unsupported(
                "a script that was to be reloaded is stuck for good: this server cannot load another one. "
                    + "Delete the device and add it anew"
            )
        }
        let begun = Promise<ThreadClock>()
        let promise = Promise<Result<LoadedScript.Plan, ScriptProblem>>()
        let seed = plan.seed
        let thread: OSThread
        do throws(Errno) {
            thread = try OSThread(trying: "ublk-loader") {
                begun.fulfil(ThreadClock())
                promise.fulfil(
                    Result { () throws(ScriptProblem) in
                        try LoadedScript.plan(source, overrides: overrides, usualSeed: seed)
                    }
                )
            }
        } catch { throw Self.noThread("the loader of the script", error) }
        // Making a plan may load the script twice.
        let limit = Script.Options().loadLimitNanoseconds
        let most = 2 * LoadWatch.nanosecondsMax(limit: limit)
        var result: Result<LoadedScript.Plan, ScriptProblem>?
        if let clock = begun.wait(seconds: Self.prepareSeconds) {
            while result == nil, clock.nanoseconds < most { result = promise.wait(seconds: 0.2) }
        }
        guard let result else {
            isLoaderStuck = true
            throw DeviceError.unsupported(LoadWatch.text(source.name, limitNanoseconds: limit))
        }
        thread.join()
        return try result.get()
    }

    /// Refuses a script whose `device{}` differs from the running device.
    ///
    /// In a shipped script `device{}` is only a default, except for keys that its code relies on and for settings given
    /// to this reload.
    private func check(_ plan: LoadedScript.Plan, _ new: [Setting]) throws(ConfigError) {
        let relied = ["backing{}", "backing", "queues", "logical_block_size", "max_io"]
        let difference = plan.config.difference(from: self.plan.config) { key in
            !plan.source.isShipped || key == "backing{}" || new.contains { $0.key == key }
                || relied.contains(key) && plan.origins[key] != nil
        }
        guard let difference else { return }
        throw ConfigError(
            origin: plan.origins[difference.key] ?? plan.source.name,
            text:
                "\(difference.key): the running device has \(difference.running), \(difference.wanted) is asked for, "
                + "and a reload cannot change that: delete the device and add it anew"
        )
    }

    /// Assigns the ledger's rule numbers to the new script, after those of all scripts that ran before.
    ///
    /// The number before the first rule is that of the script's handlers. A script that ran before keeps its numbers.
    private func number(_ plan: inout LoadedScript.Plan) {
        plan.bank = 1 - self.plan.bank
        let same = ledgerScripts.first {
            $0.name == plan.source.shortName && $0.rules == plan.rules
        }
        plan.firstRule = same?.firstRule ?? Int32(ledgerRules.count) + 1
    }

    private func remember(_ plan: LoadedScript.Plan) {
        guard Int(plan.firstRule) > ledgerRules.count else { return }
        let name = plan.source.shortName
        ledgerRules.append(RuleLabel(line: 0, name: "", script: name))
        ledgerRules += plan.rules
        ledgerScripts.append(
            LedgerScript(name: name, rules: plan.rules, firstRule: plan.firstRule)
        )
        ledgerFile?.tell(ledgerText(isJSON: true))
    }

    private func prepare(_ reload: ScriptReload) throws(DeviceError) {
        for queue in queues {
            let answer = [queue].ask { .prepare(reload, $0) }.wait(seconds: Self.prepareSeconds)
            let silence =
                "queue \(queue.queue.rawValue) did not answer within \(Int(Self.prepareSeconds)) s"
            guard let problem = answer.answers.first ?? silence else { continue }
            for queue in queues { queue.send(.discard) }
            throw .unsupported(problem)
        }
    }

    private func adopt(_ reload: ScriptReload, overrides: [Setting]) {
        let plan = reload.plan
        watchdog.setBudget(nanoseconds: plan.config.budgetNanoseconds)
        remember(plan)
        reload.counters.takeTotals(of: ruleCounters)
        // A queue that is late adopts it later, and runs the old script until then.
        _ = queues.ask { .adopt($0) }.wait(seconds: Self.prepareSeconds)
        ruleCounters = reload.counters
        self.plan = plan
        request.source = plan.source
        request.overrides = overrides
        writeRecord(overrides)
    }

    private func writeRecord(_ overrides: [Setting]) {
        guard var record else { return }
        record.script = plan.source.recordedPath
        record.origin = plan.source.origin
        record.loadedScript = request.state.scriptPath(id, bank: plan.bank)
        record.settings = overrides.map(\.asTyped)
        do throws(DeviceError) { try keep(record) } catch {
            logger.warning("the record of the device could not be written: \(error)")
        }
    }
}
