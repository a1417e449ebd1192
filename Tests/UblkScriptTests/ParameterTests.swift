import Testing

@testable import UblkScript

/// `params{}`: what the command line may say, what becomes of it, and every refusal.
@Suite struct ParameterTests {
    private static let script = """
        device { size = "1M" }
        local p = params { errno = "EIO", p = 0.25, count = 3, on = true }
        function ctl() return p.errno, p.p, p.count, math.type(p.count), p.on end
        """

    /// What `ctl` of the script answers under those arguments.
    private func values(
        _ arguments: [String: String],
        _ script: String = Self.script
    ) throws -> String {
        try ScriptHarness(script, options: .init(arguments: arguments)).ctl()
    }

    private func plan(
        _ script: String = Self.script,
        _ words: [(String, String)]
    ) throws(ScriptProblem) -> LoadedScript.Plan {
        try LoadedScript.plan(
            ScriptSource(path: "test.lua", text: script),
            overrides: words.map {
                .test($0.0, .string($0.1), origin: "argument \($0.0)=\($0.1)")
            }
        )
    }

    private func refused(_ script: String = Self.script, _ words: (String, String)...) -> String {
        do throws(ScriptProblem) {
            _ = try plan(script, words)
            return "accepted"
        } catch { return error.description }
    }

    @Test func `parameters have their defaults until the command line says otherwise`() throws {
        #expect(try values([:]) == "EIO\t0.25\t3\tinteger\ttrue")
        #expect(try values(["p": "1"]) == "EIO\t1\t3\tinteger\ttrue")
    }

    @Test func `a value becomes what its default is`() throws {
        let given = ["errno": "17", "p": "5e-1", "count": "0x10", "on": "false"]
        #expect(try values(given) == "17\t0.5\t16\tinteger\tfalse")
        #expect(try values(["count": "2.5"]) == "EIO\t0.25\t2.5\tfloat\ttrue")
        #expect(try values(["errno": ""]) == "\t0.25\t3\tinteger\ttrue")
    }

    @Test(arguments: [
        ("p", "many", "a number is expected"), ("p", "", "a number is expected"),
        ("p", "1e999", "a number is expected"), ("count", "1 2", "a number is expected"),
        ("on", "1", "true or false is expected"), ("on", "yes", "true or false is expected"),
    ])
    func `a value of another kind is refused by file and line`(
        key: String,
        value: String,
        expected: String
    ) {
        let text = refused(Self.script, (key, value))
        #expect(text == "test.lua:2: params: \(key) = \"\(value)\": \(expected)")
    }

    @Test func `a key of device goes to device, every other to the script`() throws {
        let plan = try plan(Self.script, [("size", "2M"), ("errno", "ENODATA"), ("queues", "2")])
        #expect(plan.config.sizeBytes == 2 << 20 && plan.config.queues == 2)
        #expect(plan.parameters.map(\.key) == ["count", "errno", "on", "p"])
        #expect(plan.parameters.map(\.plainText) == ["3", "ENODATA", "true", "0.25"])
    }

    @Test func `device gives back its table with what the command line says in place`() throws {
        let script = """
            local wanted = { size = "1M", queues = 1, read_only = false }
            local d = device(wanted)
            local p = params { p = 1 }
            rule { op = "read", range = { 0, d.size }, p = p.p, error = "EIO" }
            function ctl() return d.size, d.queues, d.read_only, d.depth, d.p, wanted.size end
            """
        func answer(_ settings: [String: String]) throws -> String {
            try ScriptHarness(script, options: .init(settings: settings)).ctl()
        }
        #expect(try answer([:]) == "1M\t1\tfalse\tnil\tnil\t1M")
        #expect(try answer(["size": "2M", "depth": "8"]) == "2M\t1\tfalse\t8\tnil\t1M")
        // In the plan and in the queue's state alike: the last read is inside of what the command line said.
        let result = try simulate(script, settings: ["size": "2M", "p": "1"]) {
            $0.workload = Workload([.read(0), .read((2 << 20) - 4096)])
        }
        #expect(result.outcomes == ["EIO", "EIO"])
    }

    @Test func `the last of two values is the one`() throws {
        let plan = try plan(Self.script, [("p", "0.5"), ("p", "0.75")])
        #expect(plan.parameters.last?.plainText == "0.75")
    }

    @Test func `a key that nobody has is refused with those there are`() {
        let keys = DeviceConfig.keys.joined(separator: ", ")
        #expect(
            refused(Self.script, ("sizes", "1G"))
                == "argument sizes=1G: there is no \"sizes\". The script has: count, errno, on, p; device has: \(keys)"
        )
        #expect(
            refused("device { size = \"1M\" }", ("sizes", "1G"))
                == "argument sizes=1G: device has no key \"sizes\". It has: \(keys)"
        )
    }

    @Test func `a parameter cannot have the name of a key of device`() {
        for key in DeviceConfig.keys {
            let text = refused("device { size = \"1M\" }\nparams { p = 1, \(key) = 1 }")
            #expect(text.hasPrefix("test.lua:2: params: \(key) is a key of device{}"), "\(text)")
        }
    }

    @Test(arguments: [
        ("params { p = {} }", "the default of p is a number"),
        ("params { p = ranges() }", "the default of p is a number"),
        ("params { p = print }", "key \"p\" holds a function"),
        ("params { 1 }", "bad name \"\""),
        ("params { [\"a-b\"] = 1 }", "bad name \"a-b\""),
        ("params(1)", "one table is expected"),
        ("params { p = 1 } params { q = 1 }", "declared already, on line 2"),
    ])
    func `what cannot be declared is refused by file and line`(text: String, part: String) {
        let error = loadError("\n\(text)")
        #expect(error?.text.hasPrefix("test.lua:2: params: ") == true, "\(error?.text ?? "")")
        #expect(error?.text.contains(part) == true, "\(error?.text ?? "accepted")")
    }

    @Test func `a declaration that was refused does not count`() throws {
        let text = "pcall(params, { p = {} })\ndevice { size = \"1M\" }\nparams { q = 1 }"
        #expect(try plan(text, [("q", "2")]).parameters.map(\.key) == ["q"])
        #expect(refused(text, ("p", "2")).contains("The script has: q;"))
    }

    @Test func `parameters are declared in the load phase only`() {
        let error = loadError("function read() params { p = 1 } end")
        #expect(error == nil)
        let phase = { try ScriptHarness("function ctl() params { p = 1 } end").ctl() }
        #expect(throws: ScriptError.self) { try phase() }
    }

    @Test func `every queue's state gets the values, and so do the rules`() throws {
        let script = """
            device { size = "1M" }
            local p = params { errno = "EIO", nth = 1 }
            rule { op = "read", nth = p.nth, error = p.errno }
            function write() if p.errno == "ENODATA" then return fail("ENOSPC") end end
            """
        let result = try simulate(script, settings: ["errno": "ENODATA", "nth": "2"]) {
            $0.workload = Workload([.read(0), .read(0), .write(0)])
        }
        #expect(result.outcomes == ["", "ENODATA", "ENOSPC"])
    }

    @Test func `text is read as a size or a time where a script asks for it`() throws {
        #expect(try ScriptHarness.value(of: "bytes(\"4K\") + bytes(1)") == "4097")
        #expect(try ScriptHarness.value(of: "time(\"1.5ms\") + time(2*us)") == "1502000")
        for (call, text) in [
            ("bytes(\"4Q\")", "bad size \"4Q\""), ("time({})", "bad time a table"),
        ] {
            #expect(loadError("\nlocal x = \(call)")?.text.hasPrefix("test.lua:2: \(text)") == true)
        }
    }
}
