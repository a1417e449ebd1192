import Synchronization
import Testing

@testable import UblkScript

/// What one IO passes between the event that brings it and its commit, held against `docs/architecture.md`.
@Suite(.enabled(if: !SourceTree.swift.isEmpty, "the sources are not where the tests were built"))
struct IOWalkTests {
    /// A row of the table in the document.
    private struct Step: Equatable {
        let function: String
        let file: String
        /// It is over before the commit: its frame is not there any more.
        let hasReturned: Bool
    }

    private static func table() throws -> [Step] {
        let text = try #require(SourceTree.text(of: "docs/architecture.md"))
        let rows = text.split(separator: "\n").drop { !$0.hasPrefix("| function | file |") }
        return rows.dropFirst(2).prefix { $0.hasPrefix("|") }.map { row in
            let cells = row.split(separator: "|").map { $0.split(separator: "`") }
            return Step(
                function: String(cells[0][1].prefix { $0 != "(" }),
                file: String(cells[1][1]),
                hasReturned: row.contains("returns")
            )
        }
    }

    @Test func `an IO passes at most nine functions in five files`() throws {
        let table = try Self.table()
        #expect(table.count >= 5 && table.count <= 9)
        #expect(Set(table.map(\.file)).count <= 5)
        for step in table {
            let file = SourceTree.text(of: "Sources/UblkScript/\(step.file)")
            #expect(file?.contains("func \(step.function)(") == true, "\(step)")
        }
    }

    @Test func `the frames at the commit of an IO on memory are those of the table, in that order`()
        throws
    {
        let source = ScriptSource(path: "t.lua", text: "device { size = \"1M\" }")
        let plan = try LoadedScript.plan(source, overrides: [])
        let shared = SharedObjects(queues: 1)
        let counters = RuleCounters(count: 0)
        let control = QueueControl {}
        let stores = try DeviceStores(plan.config, newFiles: NewFiles())
        let walk = Walk()
        var queue = try Queue(
            transport: OneWriteTransport(walk),
            loaded: plan.load(
                queue: QueueID(0),
                shared: shared,
                counters: counters,
                ledger: control.ledger,
                logFD: -1
            ),
            configuration: QueueConfiguration(
                queue: QueueID(0),
                depth: 1,
                sizeBytes: stores.sizeBytes,
                maxIOBytes: 4096,
                stores: stores.views,
                config: plan.config,
                rules: plan.rules,
                seed: 1
            ),
            shared: shared,
            control: control,
            report: SilentReport()
        )
        control.arm()
        queue.run()
        #expect(walk.result.withLock { $0 } == 4096)
        let frames = walk.frames.withLock { $0 }
        let end = try #require(frames.firstIndex { $0.hasPrefix("Queue<>.turn(") }, "\(frames)")
        let passed = frames[..<end].reversed().map { frame in
            String(frame.split(separator: ".").last ?? "").prefix { $0 != "(" }
        }
        let table = try Self.table().filter { !$0.hasReturned }.map { $0.function[...] }
        #expect(passed == table)
        withExtendedLifetime(stores) {}
    }
}

/// Says nothing.
private struct SilentReport: QueueReport {
    func scriptFailed(_ error: ScriptError, _ io: IOSummary) {}
    func scriptChanged() {}
    func requestFailed(
        _ cause: QueueCounters.Kind,
        _ io: IOSummary,
        errno: Int32,
        _ note: String
    ) {}
    func wantsStop() {}
}
