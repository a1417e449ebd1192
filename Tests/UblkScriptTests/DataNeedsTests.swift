import Testing

@testable import UblkScript

/// Whose data has to be in memory of ours: computed when a script is loaded.
@Suite struct DataNeedsTests {
    private func needs(_ script: String) throws -> DataNeeds {
        let source = ScriptSource(path: "t.lua", text: "device { size = \"1M\" }\n" + script)
        let plan = try LoadedScript.plan(source, overrides: [])
        let loaded = try plan.load(
            queue: QueueID(0),
            shared: SharedObjects(queues: 1),
            counters: RuleCounters(count: plan.ruleCount),
            ledger: Ledger(queue: QueueID(0)),
            logFD: -1
        )
        return Queue<SimulatedTransport>.dataNeeds(loaded.rules, loaded.script)
    }

    private static let read = IOOp.read.bit
    private static let write = IOOp.write.bit

    @Test(arguments: [
        ("", UInt32(0), UInt32(0), UInt32(0)),
        // What a rule does without looking.
        (#"rule { op = "write", error = "EIO" }"#, 0, 0, 0),
        (#"rule { op = "write", verdict = store("prefix") }"#, 0, 0, 0),
        (#"rule { op = "read", delay = "1ms" }"#, 0, 0, 0),
        (#"rule { op = "read", verdict = to("4K") }"#, 0, 0, 0),
        // What it compares, and what it changes.
        (#"rule { op = "write", content = "zero", error = "EIO" }"#, write, 0, 0),
        (#"rule { op = "read", verdict = corrupt("flip") }"#, 0, read, 0),
        (#"rule { op = { "read", "write" }, verdict = corrupt("flip") }"#, 0, read | write, 0),
        (#"rule { op = "read", zero = true }"#, 0, read, 0),
        (#"rule { op = { "read", "flush" }, delay = "1ms" }"#, 0, 0, 0),
        // A handler may do both.
        ("function read() end", 0, 0, read),
        ("function write() end function flush() end", 0, 0, write | IOOp.flush.bit),
    ])
    func `data is needed of what is compared or changed, and by handlers`(
        script: String,
        compared: UInt32,
        changed: UInt32,
        handled: UInt32
    ) throws {
        let needs = try needs(script)
        #expect(needs.compared == compared)
        #expect(needs.changed == changed)
        #expect(needs.handled == handled)
        #expect(needs.mapped == compared | changed | handled)
    }
}
