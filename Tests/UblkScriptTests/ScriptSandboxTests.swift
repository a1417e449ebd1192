import Testing

@testable import UblkScript

/// What a script cannot reach, and that nothing it does wrong takes its state down.
@Suite struct ScriptSandboxTests {
    // MARK: What is not there

    @Test func `bytecode is refused, with and without a first line`() {
        let error = loadError("\u{1b}Lua\u{54}")
        #expect(error?.status == .syntax)
        #expect(error?.text == "test.lua: bytecode is not accepted, only Lua text")
        #expect(loadError("\u{FEFF}\u{1b}Lua")?.status == .syntax)
        #expect(loadError("#!/bin/x\n\u{1b}Lua")?.status == .syntax)
    }

    @Test(arguments: [
        "load", "loadstring", "loadfile", "dofile", "require", "package", "io", "os", "debug",
        "coroutine", "xpcall", "collectgarbage", "warn", "string.dump", "math.randomseed",
    ])
    func `what reaches outside is absent`(name: String) throws {
        #expect(try ScriptHarness.value(of: "type(\(name))") == "nil")
    }

    @Test func `the globals are those of an allow-list`() throws {
        let expression = """
            (function()
              local names = {}
              for name in pairs(_G) do names[#names + 1] = name end
              table.sort(names)
              return table.concat(names, " ")
            end)()
            """
        #expect(
            try ScriptHarness.value(of: expression) == """
                GiB KiB MiB TiB _G _VERSION after assert backing bucket bytes corrupt counter ctl delay device dict dist done drop \
                error every expect fail getmetatable hang ignore_fua ipairs log mark math misdirect ms next now pairs params pcall print randint \
                random ranges rawequal rawget rawlen rawset release rule sec select setmetatable state store string table test time to \
                tonumber tostring type us utf8 zero
                """
        )
    }

    // MARK: Guards

    @Test func `a finalizer is refused, and one that is slipped in later never runs`() throws {
        let error = loadError("setmetatable({}, {__gc = function() end})")
        #expect(error?.text == "test.lua:1: setmetatable: __gc is not available")
        let harness = try ScriptHarness(
            """
            ran = false
            local meta = {}
            for i = 1, 1000 do setmetatable({}, meta) end
            meta.__gc = function() ran = true end
            function read() for i = 1, 100000 do local t = setmetatable({}, meta) end end
            function ctl() return ran end
            """
        )
        _ = harness.outcome()
        for _ in 0..<20 { _ = harness.outcome() }
        #expect(try harness.ctl() == "false")
    }

    @Test(arguments: [
        ("\"\"", "strings"), ("fail(\"EIO\")", "verdicts"), ("set", "ranges"), ("_G", "globals"),
    ])
    func `metatables are protected`(object: String, what: String) throws {
        let harness = try ScriptHarness(
            "local set = ranges()\nfunction ctl() return getmetatable(\(object)) end"
        )
        #expect(try harness.ctl() == "false", "\(what)")
        let set = try ScriptHarness(
            "local set = ranges()\nfunction ctl() setmetatable(\(object), {}) end"
        )
        #expect(throws: ScriptError.self, "\(what)") { try set.ctl() }
    }

    @Test func `the metatable of an io is protected`() throws {
        let harness = try ScriptHarness(
            """
            function read(io) return getmetatable(io) == false and fail("EIO") or nil end
            function write(io) setmetatable(io, {}) end
            """
        )
        #expect(try harness.decide(.read) == .fail("EIO"))
        #expect(throws: ScriptError.self) { try harness.decide(.write) }
    }

    @Test func `a protected metatable of the script's own is respected`() throws {
        let error = loadError("setmetatable(setmetatable({}, {__metatable = 1}), {})")
        #expect(error?.text.contains("the metatable is protected") == true)
    }

    @Test func `methods that are called on the wrong object are errors`() throws {
        let harness = try ScriptHarness(
            """
            local set, other = ranges(), nil
            function read(io) return set.add(io, 0, 1) end
            function write(io) return set.has(fail("EIO"), 0) end
            function flush(io) return fail("EIO") + io end
            """
        )
        for op in [IOOp.read, .write, .flush] {
            #expect(throws: ScriptError.self) { try harness.decide(op) }
        }
    }

    @Test(arguments: [
        "(\"\"):rep(1 << 50)", "(\"\"):rep(1 << 50, \"\")", "#table.concat({}, \"\", 1, 0)",
        "pcall(table.concat, {}, \"\", 1, 1 << 40)", "pcall(table.move, {}, 1, 1 << 40, 2)",
        "pcall(table.unpack, {}, 1, 1 << 40)",
        "pcall(table.concat, setmetatable({}, {__len = function() return 1 << 40 end}))",
        "pcall(table.sort, setmetatable({}, {__len = function() return 1 << 30 end}))",
        "pcall(table.insert, setmetatable({}, {__len = function() return 1 << 40 end}), 1, 1)",
        "pcall(table.remove, setmetatable({}, {__len = function() return 1 << 40 end}), 1)",
        "pcall(table.move, {}, math.mininteger, math.maxinteger, 1)",
    ])
    func `library functions do not loop in C over what is not there`(expression: String) throws {
        let start = SystemCall.threadCPUNanoseconds
        _ = try ScriptHarness.value(of: expression)
        #expect(SystemCall.threadCPUNanoseconds - start < 1_000_000_000)
    }

    // MARK: Runaways

    /// A handler that never ends; `write` shows that the state is usable afterwards.
    private func runaway(_ body: String) throws -> ScriptHarness {
        try ScriptHarness(
            "function read(io)\n\(body)\nend\nfunction write() return fail(\"EIO\") end"
        )
    }

    @Test(arguments: [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function again() pcall(again) again() end again()",
        "repeat local ok = pcall(pcall, error) until false",
        "for i = 1, math.huge do end",
        "goto top ::top:: goto top",
        "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
        "log(setmetatable({}, {__tostring = function() while true do end end}))",
        "table.sort({3, 2, 1}, function() while true do end end)",
        "(\"x\"):gsub(\"x\", function() while true do end end)",
        "for _ in (function() return 1 end) do end",
        "while true do pcall(error, setmetatable({}, {__tostring = error})) end",
    ])
    func `a handler that runs away is stopped, whatever it catches`(body: String) throws {
        let harness = try runaway(body)
        harness.watched {
            for _ in 0..<2 {
                guard case .failure(let error) = harness.outcome() else {
                    Issue.record("it ended by itself")
                    return
                }
                #expect(error.status == .budget, "\(error)")
                #expect(error.text.hasPrefix("test.lua:"), "\(error)")
                #expect(error.text.contains("interrupted: over its time budget"), "\(error)")
                #expect(harness.outcome(.write) == .success(.fail("EIO")))
            }
        }
    }

    @Test func `a kill is soon over, however deep calls nest`() throws {
        // Each pcall catches it once, and each catch looks at the whole stack.
        let harness = try runaway("local function again() pcall(again) again() end again()")
        harness.watched(budgetNanoseconds: 300_000_000) {
            let start = SystemCall.threadCPUNanoseconds
            guard case .failure(let error) = harness.outcome() else {
                Issue.record("it ended by itself")
                return
            }
            #expect([.budget, .runtime].contains(error.status), "\(error)")
            #expect(SystemCall.threadCPUNanoseconds - start < 2_000_000_000)
        }
    }

    @Test func `pcall nests so deep and no deeper, in handlers and in ctl`() throws {
        let script = """
            local deepest, why
            local function down(n) deepest = n; local ok, e = pcall(down, n + 1); if not ok and not why then why = e end end
            function read() deepest, why = 0, nil down(0) if deepest ~= 100 then error(deepest) end end
            function ctl() deepest, why = 0, nil down(0) return deepest, why end
            """
        let harness = try ScriptHarness(script)
        for _ in 0..<3 { #expect(try harness.decide(.read) == .pass) }
        #expect(try harness.ctl() == "100\ttest.lua:2: pcall: nested more than 100 deep")
    }

    @Test func `a kill that was caught does not make the run a success`() throws {
        // The tail call ends without one more instruction that could meet the kill again.
        let harness = try runaway("return pcall(function() while true do end end)")
        harness.watched {
            guard case .failure(let error) = harness.outcome() else {
                Issue.record("the kill was swallowed")
                return
            }
            #expect(error.status == .budget)
        }
    }

    @Test func `a load phase that runs away is stopped after five seconds of work`() {
        loadPhaseIsStopped("while true do pcall(function() while true do end end) end")
    }

    @Test(
        .enabled(if: TestHost.runsSlowTests, "takes 5 s of a CPU each: UBLK_TEST_SLOW=1"),
        arguments: [
            "while true do end",
            "local s = (\"x\"):rep(1 << 20) while true do local t = s .. #s end",
        ]
    )
    func `a load phase that runs away otherwise is stopped, too`(text: String) {
        loadPhaseIsStopped(text)
    }

    private func loadPhaseIsStopped(_ text: String) {
        // CPU time: the machine may have other things to do.
        let start = SystemCall.threadCPUNanoseconds
        let error = loadError(text)
        let seconds = Double(SystemCall.threadCPUNanoseconds - start) / 1e9
        #expect(error?.status == .budget)
        #expect(error?.text.contains("(load phase)") == true)
        #expect(seconds >= 5)
        #expect(seconds < 10)
    }

    // MARK: Memory and stack

    @Test(arguments: [
        "local s = (\"x\"):rep(10 * GiB)", "local s = (\"x\"):rep(1 << 62)",
        "local t = {} for i = 1, math.huge do t[i] = {i} end",
        "local s = \"x\" while true do s = s .. s end",
        "local s = (\"x\"):rep(1 << 20) local t = {} for i = 1, 1000 do t[i] = s end return #table.concat(t)",
    ])
    func `memory is limited and given back`(body: String) throws {
        var options = Script.Options()
        options.memoryBytes = 8 << 20
        let harness = try ScriptHarness(
            "function read(io)\n\(body)\nend\nfunction write() return fail(\"EIO\") end",
            options: options
        )
        for _ in 0..<3 {
            guard case .failure(let error) = harness.outcome() else {
                Issue.record("\(body)")
                return
            }
            #expect([.memory, .runtime].contains(error.status), "\(error)")
            #expect(error.text.contains("memory") || error.text.contains("too large"), "\(error)")
            #expect(harness.script.memoryUsedBytes <= 8 << 20)
            #expect(harness.outcome(.write) == .success(.fail("EIO")))
        }
    }

    @Test func `the message of a full state names the limit`() throws {
        var options = Script.Options()
        options.memoryBytes = 1 << 20
        let error = loadError("\nlocal s = (\"x\"):rep(2 * MiB)", options: options)
        #expect(error?.status == .memory)
        #expect(error?.text == "test.lua:2: out of memory: the script is over its limit of 1 MiB")
        options.memoryBytes = 1000
        #expect(loadError("", options: options)?.status == .memory, "not even room for a state")
    }

    @Test func `a state that is nearly full fails cleanly wherever memory runs out`() {
        // Each limit breaks another allocation of opening and loading.
        for limit in stride(from: 1024 as UInt64, to: 64 << 10, by: 509) {
            var options = Script.Options()
            options.memoryBytes = limit
            let error = loadError(
                "local b = ranges(\"b\"):add(0, 1) rule { op = \"read\", range = b, error = \"EIO\" }",
                options: options
            )
            if let error { #expect(error.status == .memory, "\(limit): \(error)") }
        }
    }

    @Test(arguments: [
        "local function f() return 1 + f() end return f()",
        "local function f() local ok, e = pcall(f) error(e, 0) end f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
        "local t = setmetatable({}, {__tostring = function(t) return tostring(t) end}) tostring(t)",
        "return (\"x\"):rep(300000):find((\"x?\"):rep(300000))",
        "return (\"(\"):rep(100):find((\"(\"):rep(100))",
        "local t = {} for i = 1, 10000000 do t[i] = i end return table.unpack(t)",
    ])
    func `deep recursion is an error of the script`(body: String) throws {
        let harness = try runaway(body)
        harness.watched(budgetNanoseconds: 5_000_000_000) {
            for _ in 0..<2 {
                guard case .failure(let error) = harness.outcome() else {
                    Issue.record("\(body)")
                    return
                }
                #expect([.runtime, .memory].contains(error.status), "\(error)")
                #expect(harness.outcome(.write) == .success(.fail("EIO")))
            }
        }
    }

    @Test func `text that nests deeply does not load`() {
        let braces = String(repeating: "{", count: 100_000) + String(repeating: "}", count: 100_000)
        #expect(loadError("local t = \(braces)")?.status == .syntax)
        let parentheses = String(repeating: "(", count: 100_000)
        #expect(loadError("local t = \(parentheses)")?.status == .syntax)
    }

    @Test func `errors of any kind leave the state usable`() throws {
        let harness = try ScriptHarness(
            """
            local kinds = {
              function() error("text") end, function() error({}) end, function() error() end,
              function() error(nil) end, function() local x = nil; return x.y end,
              function() return 1 + {} end, function() return #5 end, function() return 5 end,
              function() error(setmetatable({}, {__tostring = function() error("again") end})) end,
              function() return fail("EIO") + fail("EIO") end, function() return fail("NO") end,
              function() new_global = 1 end, function(io) io.x = 1 end, function(io) return io.nothing end,
              function() return math.tointeger("x") .. "y" end, function() return 1 // 0 end,
              function() assert(false) end, function() assert(nil, "why") end, function() return ("x"):bad() end,
            }
            function read(io, offset) return kinds[offset](io) end
            function write(io, offset) return offset < #kinds and delay(offset + 1) or nil end
            """
        )
        var offset: UInt64 = 1
        while true {
            guard case .failure(let error) = harness.outcome(.read, offset: offset) else {
                Issue.record("\(offset)")
                return
            }
            #expect(error.status == .runtime)
            #expect(!error.text.isEmpty)
            let next = try harness.decide(.write, offset: offset).delay
            guard next != 0 else { break }
            offset = next
        }
        #expect(offset == 19)
    }
}
