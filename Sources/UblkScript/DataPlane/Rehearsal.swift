import CLua

extension LoadedScript.Plan {
    /// Loads the script as a queue of the device does, within the limits that the script sets, and discards it.
    ///
    /// The plan was made before these limits were known.
    func rehearse() throws(ScriptProblem) {
        let shared = SharedObjects(queues: 1)
        var loaded = try load(
            queue: QueueID(0),
            shared: shared,
            counters: RuleCounters(count: ruleCount),
            ledger: Ledger(queue: QueueID(0), capacity: 1),
            logFD: -1
        )
        do throws(ScriptError) {
            // The size of a file that may not exist is not known.
            let size = config.sizeBytes ?? 1 << 30
            try loaded.rules.attach(shared, loaded.script, deviceBytes: size)
            try bind(loaded.script)
        } catch { throw .script(error) }
    }

    /// Makes as many `io` objects as a queue does.
    private func bind(_ script: borrowing Script) throws(ScriptError) {
        let depth = Int(config.depth)
        let requests = RequestTable(depth: depth, queue: QueueID(0), counters: QueueCounters())
        // No IO arrives, so the address is never used.
        let nowhere = unsafe UnsafeMutableRawPointer(bitPattern: SystemPage.bytes)
        for index in 0..<depth {
            let tag = Tag(UInt16(index))
            let isBound = unsafe us_script_bind_io(
                script.handle,
                tag.rawValue,
                requests.io(tag),
                nowhere,
                requests.patches(tag)
            )
            guard isBound else {
                throw .noMemoryForTags(source: script.sourceName, depth: depth)
            }
        }
    }
}
