import Testing

@testable import UblkScript

/// The tests that scripts carry: what they can do to a device, and what is said when one fails.
@Suite struct ScriptTestRunTests {
    private static let device = "device { size = \"16M\" }\n"

    private func run(
        _ text: String,
        _ settings: [String: String] = [:]
    ) throws -> [ScriptTestRun.Outcome] {
        let overrides = settings.map {
            Setting(key: $0.key, value: .string($0.value), origin: "argument \($0.key)")
        }
        let source = ScriptSource(path: "test.lua", text: Self.device + text)
        return try ScriptTestRun(source, overrides: overrides).run()
    }

    /// Why one test with that body fails, its first line being 3; nil: it passes.
    private func failure(_ body: String, script: String = "") throws -> String? {
        let outcomes = try run("\(script)\ntest(\"t\", function(disk)\n\(body)\nend)")
        #expect(outcomes.count == 1)
        return outcomes.first?.failure
    }

    private func refusal(_ text: String) -> String? {
        do {
            _ = try run(text)
            return nil
        } catch { return "\(error)" }
    }

    // MARK: What a test can see

    private static let faults = """
        local bad = ranges("bad"):add("1M", "4K") \
        rule { op = "read", range = bad, error = "ENODATA" } \
        rule { op = "write", range = { "2M", "4K" }, delay = "50ms" } \
        rule { range = { "3M", "4K" }, hang = true, error = "EIO" } \
        rule { op = "read", range = { "4M", "4K" }, window = { from = "10s" }, error = "ETIME" }
        """

    @Test(arguments: [
        // errno, data, time
        "expect(disk:read('1M', '4K').errno, 'ENODATA')",
        "local r = disk:read('1M', '4K') expect(r.done, true) expect(r.data, nil)",
        "expect(disk:read('1M', '4K').errno, 'ENODATA') bad:clear() expect(disk:read('1M', '4K').errno, nil)",
        "local w = disk:write(0, '8K') expect(disk:read(4096, 4096).data, w.data:sub(4097))",
        "disk:write(0, ('x'):rep(512)) expect(disk:read(0, 512).data, ('x'):rep(512))",
        "expect(disk:write(0, '4K').data == disk:write(0, '4K').data, false)",
        "disk:write(0, '4K') disk:discard(0, '4K') expect(disk:read(0, 512).data, ('\\0'):rep(512))",
        "disk:write(0, '4K') disk:write_zeroes(0, 512, 'nounmap') expect(disk:read(0, 512).data, ('\\0'):rep(512))",
        "expect(disk:write('2M', '4K').time, 50 * ms) expect(disk:read(0, '4K').time, 0)",
        "expect(disk.size, 16 * MiB) expect(disk.block, 512) expect(disk.max_io, 512 * KiB)",
        // virtual time
        "disk:wait('9.999s') expect(disk:read('4M', '4K').errno, nil)",
        "disk:wait(10 * sec) expect(disk:read('4M', '4K').errno, 'ETIME') expect(now(), 10 * sec)",
        // several at a time
        "local r = disk:send('write', '2M', '4K') expect(r.done, false) disk:wait('49ms') expect(r.done, false) disk:wait('1ms') expect(r.done, true)",
        "local r = disk:send('write', '2M', '4K') expect(disk:wait(r), r) expect(r.time, 50 * ms) expect(disk:wait(r), r)",
        "local r = disk:send('read', '3M', '4K') disk:wait('24h') expect(r.done, false)",
        "expect(pcall(disk.read, disk, '3M', '4K'), false) expect(disk:read(0, 512).errno, nil)",
        // ctl
        "expect(disk:ctl('ranges', 'bad', 'count'), 'bad: 1 ranges, 4096 bytes')",
        "disk:ctl('rule', 'off', 'all') expect(disk:read('1M', '4K').errno, nil)",
        "local r = disk:send('read', '3M', '4K') disk:wait(1) expect(disk:ctl('release'), 'released 1') expect(r.errno, 'EIO')",
        "local r = disk:send('read', '3M', '4K') disk:wait(1) disk:ctl('release', 'ETIME') expect(r.errno, 'ETIME')",
        "disk:ctl('pause') local r = disk:send('read', 0, 512) disk:wait('1s') expect(r.done, false) disk:ctl('resume') disk:wait(r)",
    ])
    func `a test does IO, waits, and sees what came of it`(body: String) throws {
        let body = body.replacingQuotes
        #expect(try failure(body, script: Self.faults) == nil)
    }

    @Test func `each test has a fresh device and fresh variables`() throws {
        let step = """
            function(disk)
              expect(disk:read(0, 512).data, ("\\0"):rep(512)) expect(set:count(), 0) expect(count, 0)
              expect(now(), 0) expect(disk:ctl("count"), "0")
              disk:write(0, 512) set:add(0, 512) count = count + 1 disk:wait("1s")
              expect(disk:ctl("count"), "1")
            end
            """
        let script = """
            set = ranges("set") count = 0 local writes = 0
            function write() writes = writes + 1 end
            function ctl() return writes end
            """
        let outcomes = try run("\(script)\ntest(\"a\", \(step))\ntest(\"b\", \(step))")
        #expect(outcomes.map(\.failure) == [nil, nil])
        #expect(outcomes.map(\.name) == ["a", "b"] && outcomes.map(\.line) == [5, 11])
    }

    @Test
    func `what has a name is the device's, and what the load phase draws is the same for both`()
        throws
    {
        let script = """
            local set = ranges("set") for i = 1, 20 do set:add(random(1000) * 8192, 512) end
            local own = ranges() mine = 0
            local before = set:count()
            function write(io, offset) set:add(offset, 512) own:add(offset, 512) end
            function ctl() return set:count() .. " " .. own:count() end
            """
        let body = """
            expect(set:count(), before)
            disk:write("15M", 512)
            expect(set:count(), before + 1) expect(own:count(), 0)
            expect(disk:ctl("x"), before + 1 .. " 1")
            """
        #expect(try failure(body, script: script) == nil)
    }

    @Test func `a test has the settings that it asks for, and else those of the command line`()
        throws
    {
        let script = """
            local p = params { errno = "EIO", place = 0, on = true, wait = "0ms" }
            rule { op = "read", range = p.on and { p.place, "4K" } or nil, error = p.errno, delay = p.wait }
            test("given", function(disk) expect(disk:read(0, 512).errno, "ETIME") end)
            test("own", { errno = "ENODATA", place = 8192, size = "1M", wait = "5ms" }, function(disk)
              expect(disk.size, 1 * MiB)
              local r = disk:read(8192, 512) expect(r.errno, "ENODATA") expect(r.time, 5 * ms) expect(disk:read(0, 512).errno, nil)
            end)
            test("all", { on = false }, function(disk) expect(disk:read("9M", 512).errno, "ETIME") end)
            """
        #expect(
            try run(script, ["errno": "ETIME", "seed": "7"]).map(\.failure) == [nil, nil, nil]
        )
    }

    // MARK: What is said

    @Test(arguments: [
        ("expect(disk:read('1M', '4K').errno, 'EIO')", "expected \"EIO\", got \"ENODATA\""),
        ("expect(disk:read(0, 512).errno, 'EIO', 'first')", "first: expected \"EIO\", got nil"),
        ("expect(1, 2)", "expected 2, got 1"), ("expect(disk, 1)", "expected 1, got a disk"),
        (
            "expect(disk:write(0, 512).data, ('x'):rep(512))",
            "of 512 bytes number 0 is the first that differs: expected 0x78, got 0x00"
        ),
        ("expect(('x'):rep(512), 'x')", "expected 1 bytes, got 512"),
        (
            "expect(1)",
            "expect: what came and what is expected are expected, as in expect(r.errno, \"EIO\")"
        ),
        ("assert(false)", "assertion failed!"), ("assert(nil, 'why')", "why"),
        ("error('text', 0)", "text"), ("error({})", "(error object is a table value)"),
        ("disk:read('3M', '4K')", "the request is held for ever; disk:send() does not wait for it"),
        (
            "disk:read(0, 100)",
            "read of 100 bytes at 0: offset and length are whole blocks of 512 bytes, at least one"
        ),
        (
            "disk:read('16M', 512)",
            "read of 512 bytes at 16777216: it ends past the device's 16777216 bytes"
        ),
        (
            "disk:write(0, '1M')",
            "write of 1048576 bytes at 0: the device takes at most 524288 bytes at a time"
        ),
        ("disk:write(0, '33M')", "disk:write: \"33M\": at most 32M at a time"),
        (
            "disk:write(0, 512, 'fua')",
            "write of 512 bytes at 0: the device takes no fua: the kernel sends a flush instead"
        ),
        (
            "disk:flush()",
            "flush of 0 bytes at 0: the device has no volatile cache, so the kernel sends it no flush"
        ),
        (
            "disk:read(0, 512, 'blue')",
            "disk:read: flag \"blue\": one of \"meta\", \"fua\", \"failfast\", \"nounmap\", \"swap\" is expected"
        ),
        (
            "disk:send('rewind')",
            "disk:send: \"rewind\": one of \"read\", \"write\", \"flush\", \"discard\", \"write_zeroes\" is expected"
        ),
        ("disk.read(0, 512)", "a disk is expected before the colon, as in disk:read(...); got 0"),
        (
            "disk:wait({})",
            "disk:wait: a time such as \"5s\", or what disk:send() returned, is expected"
        ),
        (
            "disk:ctl('x')",
            "disk:ctl: the script has no ctl function, and the built-in words are: release held stats pause resume rule ranges mark state seed"
        ),
        ("disk:ctl('release', 'EOH')", "disk:ctl: release: \"EOH\" is no order"),
        (
            "for _ = 1, 129 do disk:send('read', '3M', 512) end",
            "read of 512 bytes at 3145728: 128 requests are in flight, as many as depth allows"
        ),
        ("after(1, print)", "after is not available in the test phase"),
        ("rule {}", "rule is not available in the test phase"),
        ("while true do end", "interrupted: over its time budget"),
        ("pcall(function() while true do end end)", "interrupted: over its time budget"),
        (
            "local x = ('x'):rep(1 << 26) .. 'y'",
            "out of memory: the script is over its limit of 64 MiB"
        ),
    ])
    func `a test that fails says where and why`(body: String, why: String) throws {
        let failure = try failure(body.replacingQuotes, script: Self.faults)
        #expect(failure?.hasPrefix("test.lua:4: \(why)") == true, "\(failure ?? "it passed")")
    }

    @Test
    func `a script that raises while it serves fails the test, and says so beside what else fails`()
        throws
    {
        let script = "function read() error(\"oh\") end"
        #expect(
            try failure("disk:read(0, 512)", script: script)
                == "test.lua:2: oh (raised by the script while it served)"
        )
        let both = try failure("expect(disk:read(0, 512).errno, nil)", script: script)
        #expect(
            both == "test.lua:4: expected nil, got \"EIO\"\n    the script raised: test.lua:2: oh"
        )
    }

    @Test func `data that no memory is left for fails the test where it waits`() throws {
        let body = "local all = {} for i = 1, 99 do all[i] = disk:read(0, \"64K\") end"
        let outcomes = try run("test(\"t\", { memory = \"1M\" }, function(disk)\n\(body)\nend)")
        #expect(
            outcomes.map(\.failure) == [
                "test.lua:3: out of memory: the script is over its limit of 1 MiB"
            ]
        )
    }

    @Test func `a test that never ends is stopped, whatever it catches`() throws {
        #expect(
            try failure("while true do pcall(disk.wait, disk, 1) end")
                == "test.lua:3: interrupted: a test may call its disk 200000 times"
        )
    }

    @Test func `what is held or late does not keep a test from ending`() throws {
        let body = "disk:send('read', '3M', 512) disk:send('write', '2M', 512) every_ran = 1"
        let script = Self.faults + " every_ran = 0 every(\"1ms\", function() end)"
        #expect(try failure(body.replacingQuotes, script: script) == nil)
    }

    // MARK: Where tests are not run

    @Test func `a device and a simulation do not run tests`() throws {
        let result = try simulate("test(\"no\", function() error(\"ran\") end)")
        #expect(result.report.end == .finished && result.report.scriptErrors.count == 0)
    }

    @Test(arguments: [
        (
            "test()",
            "test: name nil: text of 1 to 200 bytes is expected, as in test(\"name\", function(disk) end)"
        ),
        (
            "test(\"\", print)",
            "test: name \"\": text of 1 to 200 bytes is expected, as in test(\"name\", function(disk) end)"
        ),
        (
            "test(\"a\\nb\", print)",
            "test: the name has a control character; one line of text is expected"
        ),
        (
            "test(\"a\")",
            "test: a function is expected at the end, as in test(\"name\", function(disk) end); got nil"
        ),
        (
            "test(\"a\", {}, 3)",
            "test: a function is expected at the end, as in test(\"name\", function(disk) end); got 3"
        ),
        (
            "test(\"a\", { p = {} }, print)",
            "test: p = a table: text, a number, true or false is expected"
        ),
        ("test(\"a\", { 1 }, print)", "test: setting 1: names are expected, as in { p = 1 }"),
        ("expect(1, 1)", "expect is not available in the load phase"),
    ])
    func `a test that is none is refused wherever the script is loaded`(text: String, why: String) {
        #expect(loadError(text)?.text == "test.lua:1: \(why)")
    }

    @Test func `settings that are none are refused before anything runs`() {
        #expect(
            refusal("test(\"a\", function() end)\ntest(\"b\", { pp = 1 }, function() end)")?
                .hasPrefix("test.lua:3: test \"b\": device has no key \"pp\". It has: ") == true
        )
        #expect(
            refusal("test(\"a\", { size = \"1Q\" }, function() end)")?
                .hasPrefix("test.lua:2: test \"a\": size = ") == true
        )
        #expect(
            refusal("local p = params { a = 1 } if p.a == 1 then test(\"a\", { a = 2 }, print) end")
                == "test.lua:2: the test \"a\" is not declared on every run of the script"
        )
    }
}

extension String {
    /// With ' for ", so that tables of Lua code can be read.
    fileprivate var replacingQuotes: String { String(map { $0 == "'" ? "\"" : $0 }) }
}
