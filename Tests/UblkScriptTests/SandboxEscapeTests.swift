import Glibc
import Testing

@testable import UblkScript

/// Known ways out of a Lua sandbox, and that none leads out of this one.
///
/// One after the other: they burn CPU, and some measure it.
@Suite(.serialized) struct SandboxEscapeTests {
    /// Where text of a script runs.
    enum Place: CaseIterable { case load, handler, ctl, timer, test }

    private static let memory: UInt64 = 64 << 20

    /// What came of `body` there; nil: it ended without an error.
    ///
    /// In a state that serves, another handler has worked afterwards.
    private func failure(of body: String, in place: Place, budget: UInt64) throws -> String? {
        var options = Script.Options()
        options.memoryBytes = Self.memory
        options.loadLimitNanoseconds = budget
        switch place {
        case .load: return loadError("do\n\(body)\nend", options: options)?.text
        case .handler:
            return try served("function read(io)\n\(body)\nend", budget) { $0.failure() }
        case .ctl:
            return try served("function ctl()\n\(body)\nend", budget) {
                $0.failure { _ = try $0.ctl() }
            }
        case .timer:
            return try served("after(0, function()\n\(body)\nend)", budget) {
                $0.failure { try $0.script.runTimer(now: Instant(nanoseconds: 1_000_000)) }
            }
        case .test:
            let device = "device { size = \"1M\", budget = \"\(budget)ns\" } "
            let text = device + "test(\"t\", function(disk)\n\(body)\nend)"
            let source = ScriptSource(path: "test.lua", text: text)
            return try ScriptTestRun(source, overrides: []).run().first?.failure
        }
    }

    /// What `action` says of a script with a watchdog.
    private func served(
        _ text: String,
        _ budget: UInt64,
        _ action: (ScriptHarness) -> String?
    ) throws -> String? {
        var options = Script.Options()
        options.memoryBytes = Self.memory
        let harness = try ScriptHarness(
            "function write() return fail(\"EIO\") end " + text,
            options: options
        )
        var failure: String?
        harness.watched(budgetNanoseconds: budget) {
            failure = action(harness)
            #expect(harness.outcome(.write) == .success(.fail("EIO")))
            #expect(harness.script.memoryUsedBytes <= Int(Self.memory))
        }
        return failure
    }

    // MARK: The table

    /// What must become of an escape.
    enum End: Equatable {
        /// Stopped by the time budget; in the load phase by its limit.
        case interrupted
        /// An error of Lua's or of the sandbox with that text.
        case error(String)
        /// One call of a C function, which nothing can interrupt.
        ///
        /// The server ends after 5 s, see below. A shorter form is interrupted once the call is over.
        case processEnds(shorter: String)
    }

    struct Escape: CustomTestStringConvertible {
        let text: String
        let end: End
        init(_ text: String, _ end: End) {
            self.text = text
            self.end = end
        }
        var testDescription: String { text }
    }

    private static let interrupted = "interrupted: over its time budget"
    private static let outOfMemory = End.error("out of memory")

    /// In the order of the survey of sandboxes that this one was made after; where it has words, a script.
    private static let escapes = [
        Escape("while true do end", .interrupted),
        Escape("pcall(function() while true do end end)", .interrupted),
        Escape(
            "for i = 1, 1000000 do pcall(function() while true do end end) end",
            .interrupted
        ),
        Escape(
            "xpcall(error, function() while true do end end)",
            .error("a nil value (global 'xpcall')")
        ),
        Escape(
            "setmetatable({}, { __gc = function() while true do end end }) collectgarbage()",
            .error("setmetatable: __gc is not available")
        ),
        Escape("collectgarbage()", .error("a nil value (global 'collectgarbage')")),
        Escape(
            "string.find(('a'):rep(28), ('a?'):rep(28)..('a'):rep(28))",
            .processEnds(shorter: "string.find(('a'):rep(22), ('a?'):rep(22)..('a'):rep(22))")
        ),
        Escape(
            "string.find(('-'):rep(3000), '.-.-.-b')",
            .processEnds(shorter: "string.find(('-'):rep(150), '.-.-.-b')")
        ),
        Escape("string.rep('x', 1<<30)", outOfMemory),
        Escape("local s = ('x'):rep(1<<30)", outOfMemory),
        // Twice that while it is made.
        Escape("string.rep('x', 50<<20)", outOfMemory),
        Escape("while true do pcall(string.rep, 'x', 50<<20) end", .interrupted),
        Escape("while true do local s = ('x'):rep(25<<20) end", .interrupted),
        Escape(
            "coroutine.wrap(function() while true do end end)()",
            .error("a nil value (global 'coroutine')")
        ),
        Escape(
            "local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
            .interrupted
        ),
        Escape("load(string.dump(function() end))", .error("a nil value (field 'dump')")),
        Escape("load('return 1', 'x', 'b')", .error("a nil value (global 'load')")),
        Escape("return 1//0", .error("attempt to divide by zero")),
        Escape("local function f() return 1 + f() end f()", outOfMemory),
    ]

    @Test(arguments: escapes, [Place.load, .handler])
    func `the escapes that are known do not work`(escape: Escape, place: Place) throws {
        switch escape.end {
        case .interrupted: try expect(escape.text, in: place, Self.interrupted)
        case .error(let part):
            // Time enough for it to come by itself.
            try expect(escape.text, in: place, part, budget: 2_000_000_000)
        case .processEnds(let shorter):
            // The load phase does not notice one that ends.
            guard place == .handler else { return }
            try expect(shorter, in: place, Self.interrupted)
        }
    }

    /// The body fails with that text and a place in the script, long before five seconds are over.
    private func expect(
        _ body: String,
        in place: Place,
        _ part: String,
        budget: UInt64 = 20_000_000
    ) throws {
        let start = SystemCall.threadCPUNanoseconds
        let failure = try failure(of: body, in: place, budget: budget) ?? "it ended by itself"
        #expect(SystemCall.threadCPUNanoseconds - start < 4_000_000_000, "\(place)")
        #expect(failure.contains(part), "\(place): \(failure)")
        #expect(failure.hasPrefix("test.lua:"), "\(place): \(failure)")
    }

    @Test(
        .enabled(if: TestHost.runsSlowTests, "takes 5 s of a CPU each: UBLK_TEST_SLOW=1"),
        .enabled(if: ProgramRun.program != nil, "ublk-script is not beside the test bundle"),
        arguments: escapes.filter { if case .processEnds = $0.end { true } else { false } }
    )
    func `a simulation that nothing can interrupt ends after five seconds, with a message`(
        escape: Escape
    ) {
        let scratch = ScratchDirectory()
        let text = "device { size = \"1M\" } function read() \(escape.text) end"
        let path = scratch.write("faulty.lua", text)
        let words = ["simulate", path, "--rw", "read", "--ops", "1"]
        let run = ProgramRun(words, in: scratch)
        #expect(run.exitCode == 1)
        #expect(
            run.errors
                == "ublk-script: \(path): a handler is stuck in a C function for 5 s and cannot be interrupted\n"
        )
    }

    // MARK: Variables that are closed

    private static let endless =
        "setmetatable({}, { __close = function() while true do end end })"

    @Test(
        arguments: [
            "local x <close> = \(endless)",
            "local x <close> = \(endless) while true do end",
            "local x <close>, y = \(endless) local z <close> = \(endless) while true do end",
            "pcall(function() local x <close> = \(endless) end)",
            "pcall(function() local x <close> = \(endless) while true do end end)",
            "pcall(function() local x <close> = \(endless) error('early') end)",
            "while true do pcall(function() local x <close> = \(endless) error('early') end) end",
            "for i in next, {1}, nil, \(endless) do break end",
            "local function f(n) local x <close> = \(endless) if n > 0 then f(n - 1) end end f(50)",
        ],
        Place.allCases
    )
    func `closing a variable without an end is interrupted`(body: String, place: Place) throws {
        try expect(body, in: place, Self.interrupted)
    }

    @Test(arguments: Place.allCases)
    func `closing a variable without an end after an error is interrupted`(place: Place) throws {
        // Handlers are over with their error, and then closed; those of a test are not closed at all.
        let text =
            place == .handler || place == .test ? "early" : Self.interrupted
        try expect("local x <close> = \(Self.endless) error('early')", in: place, text)
    }

    @Test func `a device that goes away does not wait for what a handler closes`() throws {
        let script = """
            local own = backing()
            function write(io, offset)
              local x <close> = \(Self.endless)
              own:read(offset, 512)
            end
            """
        let settings = ["backing": "file", "file": "/x", "budget": "20ms"]
        let start = SystemCall.threadCPUNanoseconds
        let result = try simulate(script, settings: settings) {
            $0.workload = Workload([.write(0), .write(4096)], depth: 2)
            // While both read.
            $0.interventions = [.init(at: Instant(nanoseconds: 20_000), message: .drain)]
        }
        #expect(result.finished.count == 2)
        #expect(SystemCall.threadCPUNanoseconds - start < 2_000_000_000)
    }

    // MARK: C functions that call C functions

    @Test(
        arguments: [
            "table.move(setmetatable({}, { __index = rawlen }), 1, 1<<26, 1, setmetatable({}, { __newindex = rawequal }))",
            "(('x'):rep(1<<24)):gsub('.', rawlen)",
            "while true do pcall(string.gsub, ('x'):rep(1<<24), '.', rawlen) end",
        ],
        Place.allCases
    )
    func `a library function that calls others without an end is interrupted`(
        body: String,
        place: Place
    ) throws {
        let start = SystemCall.threadCPUNanoseconds
        try expect(body, in: place, Self.interrupted)
        #expect(SystemCall.threadCPUNanoseconds - start < 1_000_000_000, "soon")
    }
}

extension ScriptHarness {
    /// Why the handler of reads, or what else is given, failed.
    fileprivate func failure(
        _ action: (ScriptHarness) throws -> Void = { _ = try $0.decide(.read) }
    ) -> String? {
        do {
            try action(self)
            return nil
        } catch { return "\(error)" }
    }
}
