import Testing

@testable import UblkScript

/// What a script gives to a function beyond its arguments is refused, whatever function it is.
@Suite struct NativeArgumentTests {
    /// Calls every function of ours with 60 arguments, in the load phase; what does not refuse is listed.
    ///
    /// Lua's own functions ignore what they do not know, as everywhere.
    private static let callAll = """
        local lua = {}
        for name in ("assert error getmetatable ipairs next pairs pcall rawequal rawget rawlen rawset " ..
            "select setmetatable tonumber tostring type"):gmatch("%a+") do lua[name] = true end
        -- With any number of arguments.
        for name in ("log print"):gmatch("%a+") do lua[name] = true end
        local extra, found, silent = {}, 0, {}
        for i = 1, 60 do extra[i] = true end
        local function call(name, f, ...)
          local arguments = table.pack(...)
          table.move(extra, 1, 60, arguments.n + 1, arguments)
          local ok, text = pcall(f, table.unpack(arguments, 1, arguments.n + 60))
          found = found + 1
          if ok or not text:find("argument %d+ is of no use: true") then
            silent[#silent + 1] = name .. ": " .. tostring(text)
          end
        end
        local names = {}
        for name, value in pairs(_G) do
          if type(value) == "function" and not lua[name] then call(name, value) end
        end
        for name, value in pairs(dist) do call("dist." .. name, value) end
        call("math.random", math.random)
        call("a distribution", dist.const(0))
        local function methods(object, words)
          for name in words:gmatch("[%w_]+") do call(name, object[name], object) end
        end
        methods(ranges(), "add remove clear has count bytes list")
        methods(counter("c"), "add get set")
        methods(dict("d"), "get set add count clear")
        methods(bucket { iops = 1 }, "take rate")
        methods(backing(), "read")
        assert(found > 50, found)
        error(#silent == 0 and "every one refuses" or table.concat(silent, "; "), 0)
        """

    @Test func `every function refuses an argument that it does not have`() {
        let text = loadError(Self.callAll, options: Script.Options(memoryBytes: 4 << 20))?.text
        #expect(text == "test.lua: every one refuses", "\(text ?? "it loads")")
    }

    @Test(arguments: [
        ("ranges():add(0, 1, \"x\")", #"ranges:add(offset, length): argument 3 is of no use: "x""#),
        ("bucket { iops = 9 }:take(1, 2, 3)", "bucket:take(tokens): argument 2 is of no use: 2"),
        ("counter(\"c\"):add(1, nil, 7)", "counter:add(number): argument 3 is of no use: 7"),
        ("counter(\"c\"):get(1)", "counter:get(): argument 1 is of no use: 1"),
        ("dict(\"d\"):set(1, 2, 3)", "dict:set(key, value): argument 3 is of no use: 3"),
        ("random(1, 2, 3)", "random(m, n): argument 3 is of no use: 3"),
        ("bytes(\"4K\", \"1M\")", #"bytes(size): argument 2 is of no use: "1M""#),
        ("after(\"1s\", function() end, 5)", "after(time, function): argument 3 is of no use: 5"),
        ("rule({ error = \"EIO\" }, { p = 0.1 })", "rule{...}: argument 2 is of no use: a table"),
        ("dist.const(1)(5)", "d(): argument 1 is of no use: 5"),
        ("backing(nil, \"x\")", #"backing{...}: argument 2 is of no use: "x""#),
    ])
    func `the message has the function, its arguments and what is too much`(
        call: String,
        message: String
    ) {
        let text = loadError("\n" + call)?.text ?? "(it loads)"
        #expect(text == "test.lua:2: " + message)
    }

    private static let inHandlers = [
        ("io:byte(0, 1)", "io:byte(position): argument 2"),
        ("io:u64(0, 1)", "io:u64(position): argument 2"),
        ("io:data(0, 1, 2)", "io:data(position, length): argument 3"),
        ("io:hash(0, 1, 2)", "io:hash(position, length): argument 3"),
        ("io:flip(0, 1, 2)", "io:flip(position, bit): argument 3"),
        ("io:patch(0, \"x\", 2)", "io:patch(position, bytes): argument 3"),
        ("disk:read(0, 512, 1)", "backing:read(offset, length): argument 3"),
        ("release(\"fifo\", 1, \"EIO\", 1)", "release(order, count, errno): argument 4"),
        ("mark(\"m\", 1)", "mark(name): argument 2"),
        ("fail(\"EIO\", \"1s\")", "fail(errno): argument 2"),
    ]

    @Test(arguments: inHandlers)
    func `methods of an io refuse it, too`(call: String, message: String) throws {
        let harness = try ScriptHarness(
            "local disk = backing() function write(io) local x = \(call) end"
        )
        guard case .failure(let error) = harness.outcome(.write) else {
            Issue.record("\(call) is accepted")
            return
        }
        #expect(error.text.contains(message + " is of no use: "), "\(error.text)")
    }

    @Test func `the disk of a test takes flags behind its arguments and nothing else`() throws {
        let text = """
            device { size = "1M" }
            test("wait", function(disk) disk:wait("1s", 2) end)
            test("flag", function(disk) disk:read(0, 512, "fua", 7) end)
            """
        let scratch = ScratchDirectory()
        try #require(ProgramRun.program != nil)
        let run = ProgramRun(["simulate", scratch.write("t.lua", text), "--test"], in: scratch)
        #expect(run.output.contains("t.lua:2: disk:wait(time): argument 2 is of no use: 2"))
        #expect(run.output.contains("t.lua:3: disk:read: flag 7: one of"), "\(run.output)")
    }

    @Test func `nil behind the arguments is nothing`() throws {
        #expect(
            try ScriptHarness.value(of: "counter ~= nil and randint(1, 1, nil, nil)") == "1"
        )
    }
}

/// One rule for the names of whatever a script calls by a name.
@Suite struct NameTests {
    private static let users = [
        "ranges(NAME)", "counter(NAME)", "dict(NAME)", "bucket { iops = 1, name = NAME }",
        "rule { name = NAME, error = \"EIO\" }", "rule { mark = NAME }",
        "rule { set_state = NAME }", "rule { state = NAME, error = \"EIO\" }",
        "rule { after = { mark = NAME }, error = \"EIO\" }",
        "rule { before = { mark = NAME }, error = \"EIO\" }",
    ]

    private func refusal(_ text: String) -> String {
        let source = ScriptSource(path: "x.lua", text: "device { size = \"1G\" }\n" + text)
        do throws(ScriptProblem) {
            _ = try LoadedScript.plan(source)
            return "(accepted)"
        } catch { return error.description }
    }

    private static let bad = [
        ("a b", "byte 2 is a blank"), ("ab\u{a0}", "byte 3 is a blank"),
        ("\u{2003}", "byte 1 is a blank"), ("a\u{2028}", "byte 2 is a blank"),
        ("\u{3000}", "byte 1 is a blank"), ("a\\tb", "byte 2 is a control character"),
        ("\\x7f", "byte 1 is a control character"),
        ("\\xc2\\x85", "byte 1 is a control character"), ("a\\xff", "byte 2 is no UTF-8"),
        ("\\xed\\xa0\\x80", "byte 1 is no UTF-8"),
        (String(repeating: "x", count: 65), "it has 65 bytes"),
    ]

    @Test(arguments: users)
    func `a name that is no word is refused by its flaw and the rule`(user: String) {
        for (name, flaw) in Self.bad {
            let text = refusal(user.replacing("NAME", with: "\"\(name)\""))
            let isSaid = text.contains("(\(flaw)): a name of 1 to 64 bytes of text without blanks")
            #expect(isSaid, "\(user), \(name): \(text)")
            #expect(text.hasPrefix("x.lua:2: "), "\(user), \(name): \(text)")
        }
    }

    @Test(arguments: users)
    func `a word is a name`(user: String) {
        for name in ["a", "größe", "a-b.c/d:e", "\"", String(repeating: "x", count: 64)] {
            let quoted = name == "\"" ? "'\"'" : "\"\(name)\""
            #expect(
                refusal(user.replacing("NAME", with: quoted)) == "(accepted)",
                "\(user), \(name)"
            )
        }
    }

    @Test(arguments: ["mark(NAME)", "state(NAME)"])
    func `what is named while the device runs has the same names`(call: String) throws {
        for (name, flaw) in Self.bad {
            let body = call.replacing("NAME", with: "\"\(name)\"")
            let harness = try ScriptHarness("function ctl() return \(body) end")
            let error = #expect(throws: ScriptError.self) { try harness.ctl() }
            #expect(error?.text.contains("(\(flaw)): a name of") == true, "\(error?.text ?? "")")
        }
    }

    @Test func `a rule is called neither all nor a number`() {
        #expect(
            refusal("rule { name = \"all\", error = \"EIO\" }").contains("all means every rule")
        )
        for name in ["12", "-1", "+3", "007"] {
            let text = refusal("rule { name = \"\(name)\", error = \"EIO\" }")
            #expect(text.contains("a number means the rule of that line"), "\(name): \(text)")
        }
    }
}
