import CLua
import Testing

@testable import UblkScript

/// Loading: phases, globals, what a script declares and where, errors of the text.
@Suite struct ScriptPhaseTests {
    @Test(arguments: ["device{}", "rule{}", "ranges()", "ranges(\"bad\")"])
    func `what belongs to the load phase is refused later`(call: String) throws {
        let name = call.prefix { $0.isLetter }
        let harness = try ScriptHarness(
            "function read() \(call) end\nfunction ctl() \(call) end"
        )
        guard case .failure(let error) = harness.outcome() else {
            Issue.record("\(call) in the io phase")
            return
        }
        #expect(error.text == "test.lua:1: \(name) is not available in the io phase")
        #expect { try harness.ctl() } throws: { error in
            (error as? ScriptError)?.text == "test.lua:2: \(name) is not available in the ctl phase"
        }
    }

    @Test func `globals made at load time can be changed, new ones cannot be made`() throws {
        let harness = try ScriptHarness(
            """
            count, flag = 0, false
            function read() count = count + 1 flag = not flag end
            function write() misspelt = 1 end
            function ctl() other = 1 end
            function flush() return count == 2 and fail("EIO") or nil end
            """
        )
        _ = try harness.decide(.read)
        _ = try harness.decide(.read)
        #expect(try harness.decide(.flush) == .fail("EIO"))
        guard case .failure(let error) = harness.outcome(.write) else {
            Issue.record("a new global")
            return
        }
        #expect(
            error.text
                == "test.lua:3: assigning the new global \"misspelt\" after the load phase; "
                + "declare it at the top of the script"
        )
        #expect(throws: ScriptError.self) { try harness.ctl() }
    }

    @Test func `each script has its own globals`() throws {
        let shared = SharedObjects(queues: 1)
        let text = "count = 0\nfunction read() count = count + 1 return delay(count) end"
        let first = try ScriptHarness(text, shared: shared)
        let second = try ScriptHarness(text, shared: shared)
        _ = try first.decide(.read)
        #expect(try first.decide(.read).delay == 2)
        #expect(try second.decide(.read).delay == 1)
    }

    @Test func `device is declared once`() {
        let error = loadError("device { size = 1 }\n\ndevice { size = 2 }")
        #expect(error?.text == "test.lua:3: device: it is declared already, on line 1")
        #expect(
            loadError("pcall(device, 5)\ndevice { size = 1 }") == nil,
            "one that failed does not count"
        )
    }

    @Test func `declarations know their lines`() throws {
        let harness = try ScriptHarness(
            """
            -- first line
            local function both(op)
              rule { op = op, error = "EIO" }
            end
            rule { op = "read",
                   error = "EIO" }
            both("write")
            both("flush")
            pcall(rule, { delay = "1ms" })
            device { size = "1M" }
            """
        )
        let declarations = try harness.script.declarations()
        #expect(declarations.rules.map(\.line) == [5, 3, 3, 9])
        #expect(
            declarations.rules.map(\.ops) == [IOOp.read, .write, .flush].map(\.bit) + [IOOp.allBits]
        )
        #expect(declarations.device.map(\.key) == ["size"])
        #expect(declarations.device.map(\.origin) == ["test.lua:10"])
    }

    @Test func `a device's values arrive with their types, sorted by key`() throws {
        let harness = try ScriptHarness(
            """
            local set = ranges("s")
            device { size = "1G", depth = 8, fua = true, p = 0.5, whole = 2.0, bad = set,
              list = {1, "a"}, map = {b = 1, a = "x"}, none = {} }
            """
        )
        let settings = try harness.script.declarations().device
        #expect(settings.map(\.key) == settings.map(\.key).sorted())
        let byKey = Dictionary(uniqueKeysWithValues: settings.map { ($0.key, $0.value) })
        #expect(byKey["size"] == "1G")
        #expect(byKey["depth"] == 8)
        #expect(byKey["fua"] == true)
        #expect(byKey["p"] == 0.5)
        #expect(byKey["whole"] == 2)
        #expect(byKey["list"] == .list([1, "a"]))
        #expect(byKey["map"] == .table(["b": 1, "a": "x"]))
        #expect(byKey["none"] == .list([]))
        guard case .ranges(let address) = byKey["bad"] else {
            Issue.record("\(String(describing: byKey["bad"]))")
            return
        }
        #expect(address != 0)
    }

    @Test(arguments: ["error(\"why\", 0)", "error({})", "error()"])
    func `an error of the load phase names the script, place or not`(text: String) {
        #expect(
            loadError(text)?.text.hasPrefix("test.lua: ") == true,
            "\(loadError(text)?.text ?? "")"
        )
    }

    @Test(arguments: [
        ("device()", "device: one table is expected, as in device{...}"),
        ("device(5)", "one table is expected"),
        ("rule({}, {})", "argument 2 is of no use: a table"),
        ("rule { a = { b = {} } }", "a table inside a table"),
        ("rule { a = print }", "key \"a\" holds a function"),
        ("rule { a = counter(\"c\") }", "key \"a\" holds a counter"),
        ("rule { a = { b = print } }", "key \"a.b\" holds a function"),
        ("rule { [1.5] = 1 }", "bad key 1.5"), ("rule { [true] = 1 }", "bad key true"),
        ("rule { [\"\"] = 1 }", "bad key \"\""), ("rule { [3] = 1 }", "bad key 3"),
        ("rule { [\"a\\0b\"] = 1 }", "bad key"), ("rule { [(\"k\"):rep(65)] = 1 }", "bad key"),
    ])
    func `a declaration that is no plain table is refused`(text: String, message: String) {
        let error = loadError("\n" + text)
        #expect(error?.text.hasPrefix("test.lua:2: ") == true, "\(String(describing: error))")
        #expect(error?.text.contains(message) == true, "\(String(describing: error))")
    }

    @Test func `there is a limit to rules`() {
        #expect(loadError("for i = 1, 10000 do rule { error = \"EIO\" } end") == nil)
        let error = loadError("for i = 1, 10001 do rule { error = \"EIO\" } end")
        #expect(error?.text.contains("there are 10000 rules already") == true)
    }

    @Test func `a refused rule names its line`() throws {
        let harness = try ScriptHarness("device { size = 512 }\nrule { error = \"EPERM\" }")
        let problem = refusal { () throws(ConfigError) in _ = try harness.script.declarations() }
        #expect(problem?.origin == "test.lua:2")
    }

    @Test func `more healing rules than a mask has bits are refused`() throws {
        func text(_ count: Int) -> String {
            "for i = 1, \(count) do rule { op = \"write\", range = {0, 512}, heal = true } end"
        }
        #expect(try ScriptHarness(text(64)).script.declarations().rules.count == 64)
        let many = try ScriptHarness(text(65))
        let problem = refusal { () throws(ConfigError) in _ = try many.script.declarations() }
        #expect(problem?.text.contains("more than 64 rules with heal") == true)
    }

    @Test func `a handler is a function`() {
        #expect(loadError("read = 5")?.text == "test.lua: read must be a function, it is 5")
        #expect(loadError("ctl = {}")?.text == "test.lua: ctl must be a function, it is a table")
    }

    @Test func `errors of the text and of loading name file and line`() {
        let syntax = loadError("local x =\n\nfunction")
        #expect(syntax?.status == .syntax)
        #expect(syntax?.text.hasPrefix("test.lua:3:") == true)
        let runtime = loadError("\nerror(\"no\")")
        #expect(runtime == ScriptError(status: .runtime, text: "test.lua:2: no"))
        #expect(loadError("error()")?.text == "test.lua: (error object is a nil value)")
        #expect(loadError("error(\"a\\0b\", 0)")?.text == "test.lua: a b")
    }

    @Test func `an empty text, a first line for the shell and a byte order mark are fine`() throws {
        #expect(loadError("") == nil)
        #expect(loadError("#!/usr/bin/env ublk-script") == nil)
        #expect(loadError("\u{FEFF}function read() end") == nil)
        let line = loadError("#!/usr/bin/lua\nerror(\"x\")")
        #expect(line?.text == "test.lua:2: x")
    }

    @Test func `the plan runs a script with the seed it asks for`() throws {
        func plan(_ text: String, _ overrides: [Setting] = []) throws -> LoadedScript.Plan {
            try LoadedScript.plan(ScriptSource(path: "test.lua", text: text), overrides: overrides)
        }
        let seeded = try plan("device { size = 512 * randint(1, 1000000), seed = 7 }")
        #expect(
            try plan("device { size = 512 * randint(1, 1000000), seed = 7 }").config
                == seeded.config
        )
        #expect(seeded.seed == 7)
        let overridden = try plan(
            "device { size = 512, seed = 7 }",
            [.test("seed", "8", origin: "argument seed=8")]
        )
        #expect(overridden.seed == 8)
        #expect(try plan("device { size = 512 }").seed != 0)
        #expect(throws: ScriptProblem.self) { try plan("device { size = 512, seed = -1 }") }
    }

    @Test func `a large load phase needs its memory from the command line`() throws {
        let text = "local s = (\"x\"):rep(100 * MiB)\ndevice { size = 512, memory = \"200M\" }"
        let source = ScriptSource(path: "test.lua", text: text)
        #expect { try LoadedScript.plan(source) } throws: { error in
            guard case .script(let error) = error as? ScriptProblem else { return false }
            return error.status == .memory
        }
        let plan = try LoadedScript.plan(
            source,
            overrides: [.test("memory", "300M", origin: "argument memory=300M")]
        )
        #expect(plan.config.scriptMemoryBytes == 300 << 20)
    }
}
