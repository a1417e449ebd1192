import CLua

/// Changing over to another script, between two IOs.
///
/// In two steps, so that the queues of a device change over together or not at all: each loads the script
/// beside the one that runs, and once all have succeeded, each adopts it. A decision stands: an IO
/// that is delayed, held or has transfers under way ends as the old script decided. An IO whose handler
/// still waits for data has no decision yet; the new script decides about it.
extension Queue where Transport: ~Copyable {
    /// Binds the queue's tags to the script and tells it the sizes of the backings.
    func bind(_ script: borrowing Script) throws(ScriptError) {
        for index in 0..<configuration.depth {
            let tag = Tag(UInt16(index))
            let isBound = unsafe us_script_bind_io(
                script.handle,
                tag.rawValue,
                requests.io(tag),
                transport.data(tag).bytes,
                requests.patches(tag)
            )
            guard isBound else {
                throw .noMemoryForTags(source: script.sourceName, depth: configuration.depth)
            }
        }
        if let puller = transport.puller {
            unsafe us_script_set_puller(script.handle, puller.forC)
        }
        tellSizes(script)
    }

    /// Tells the script how large the backings are.
    func tellSizes(_ script: borrowing Script) {
        for number in 0..<stores.count {
            let size = stores[number].sizeBytes ?? configuration.sizeBytes
            unsafe us_script_set_backing_size(script.handle, UInt32(number), size)
        }
    }

    static func dataNeeds(
        _ rules: borrowing RuleSet,
        _ script: borrowing Script
    ) -> DataNeeds {
        var needs = rules.dataNeeds
        needs.handled = script.handlers
        return needs
    }

    /// Loads the script; IOs wait for as long as its load phase takes.
    ///
    /// - Returns: nil, or why it cannot be loaded; then nothing has changed.
    mutating func prepare(_ reload: ScriptReload) -> String? {
        discardPrepared()
        guard !isDraining else { return "the device is being taken away, or was to be" }
        // Nothing is looked at meanwhile, and what the load phase replaces in sets can be freed.
        shared.offline(configuration.queue)
        defer { shared.online(configuration.queue) }
        // The first of the queues does it for all.
        if configuration.queue.rawValue == 0, !shared.clearRuleRanges(bank: reload.plan.bank) {
            return "out of memory"
        }
        do {
            var loaded = try reload.plan.load(
                queue: configuration.queue,
                shared: shared,
                counters: reload.counters,
                ledger: control.ledger,
                logFD: reload.logFD,
                now: rules.deviceTime(transport.now)
            )
            try loaded.rules.attach(
                shared,
                loaded.script,
                deviceBytes: configuration.sizeBytes
            )
            try bind(loaded.script)
            prepared = consume loaded
            self.reload = reload
            return nil
        } catch { return "\(error)" }
    }

    mutating func discardPrepared() {
        prepared = nil
        reload = nil
    }

    /// - Returns: false when nothing was prepared.
    mutating func adopt() -> Bool {
        guard let new = prepared.take(), let reload = reload.take() else { return false }
        if unsafe us_script_wants_release(script.handle) { releaseForScript() }
        for index in 0..<configuration.depth {
            let tag = Tag(UInt16(index))
            switch requests[tag].state {
            case .asking: requests[tag].isOrphaned = true
            case .delayed, .held, .transferring:
                requests[tag].heals = new.rules.heals(of: rules, requests[tag].heals)
                // The new rules have other numbers, and have not counted it.
                if requests[tag].decision.hangs != 0 { requests[tag].decision.hangs = 1 }
            default: continue
            }
        }
        control.watchdog?.remove(script)
        // The rules first: theirs are places in their script.
        rules = new.rules
        script = new.script
        dataNeeds = dataNeeds.union(Self.dataNeeds(rules, script))
        control.watchdog?.add(script)
        report.scriptChanged()
        configuration.take(reload.plan.config)
        configuration.rules = reload.plan.rules
        live = LiveControl(
            rules: configuration.rules,
            seed: configuration.seed,
            counters: rules.counters,
            shared: shared
        )
        return true
    }

    /// The data that a handler of an earlier script wanted is there, or is not; the new one begins from the start.
    mutating func decideAnew(_ tag: Tag) {
        requests[tag].isOrphaned = false
        requests[tag].decision = us_decision()
        requests[tag].heals = 0
        unsafe requests.patches(tag).pointee.count = 0
        decide(tag)
    }
}
