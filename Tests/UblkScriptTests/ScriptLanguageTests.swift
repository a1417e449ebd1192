import CLua
import Glibc
import Testing

@testable import UblkScript

/// What scripts see: the io, ranges, ctl, log, random numbers, time and constants.
@Suite struct ScriptLanguageTests {
    // MARK: io

    @Test func `an io has the fields of its request`() throws {
        let harness = try ScriptHarness(
            """
            local seen
            function write(io, offset, length)
              seen = table.concat({io.op, io.offset, io.length, offset, length, io.seq, io.tag, io.queue}, " ")
            end
            function ctl() return seen end
            """
        )
        _ = try harness.decide(.write, offset: 1 << 40, length: 8192, tag: 3)
        #expect(try harness.ctl() == "write 1099511627776 8192 1099511627776 8192 1 3 0")
    }

    @Test func `an io has the flags of its request`() throws {
        let harness = try ScriptHarness(
            """
            local seen
            function read(io)
              seen = ""
              for _, name in ipairs{"fua", "meta", "failfast", "nounmap", "swap"} do
                if io[name] then seen = seen .. name .. " " end
                assert(type(io[name]) == "boolean")
              end
            end
            function ctl() return seen end
            """
        )
        let flags: [(UInt32, String)] = [
            (0, ""), (0x1ff, "failfast "), (0x200, "failfast "), (0x400, "failfast "),
            (US_IO_META.rawValue, "meta "), (US_IO_FUA.rawValue, "fua "),
            (US_IO_NOUNMAP.rawValue, "nounmap "), (US_IO_SWAP.rawValue, "swap "),
            (.max, "fua meta failfast nounmap swap "),
        ]
        for (flags, expected) in flags {
            _ = try harness.decide(.read, flags: flags)
            #expect(try harness.ctl() == expected)
        }
    }

    @Test(arguments: IOOp.allCases)
    func `each op has its handler and its name`(op: IOOp) throws {
        let harness = try ScriptHarness(
            "local seen\nfunction \(op.name)(io) seen = io.op end\nfunction ctl() return seen end"
        )
        #expect(harness.script.handlers == op.bit)
        _ = try harness.decide(op)
        #expect(try harness.ctl() == op.name)
        for other in IOOp.allCases where other != op { #expect(try harness.decide(other) == .pass) }
    }

    @Test func `an io has no other fields and cannot be changed`() throws {
        let harness = try ScriptHarness(
            """
            function read(io) return io.size end
            function write(io) io.offset = 5 end
            function flush(io) return io[1] end
            """
        )
        let read = harness.outcome(.read)
        guard case .failure(let error) = read else {
            throw ScriptError(status: .runtime, text: "io.size")
        }
        #expect(error.text.contains("test.lua:1: io has no field \"size\"; it has op offset"))
        guard case .failure(let error) = harness.outcome(.write) else {
            throw ScriptError(status: .runtime, text: "io.offset = 5")
        }
        #expect(error.text.contains("cannot be assigned to"))
        #expect(throws: ScriptError.self) { try harness.decide(.flush) }
    }

    @Test func `an io can be used until it completes and not after`() throws {
        let harness = try ScriptHarness(
            """
            local kept
            function read(io) kept = io end
            function write(io) return kept.offset > 0 and fail("EIO") or nil end
            function ctl() return tostring(kept) .. kept.op end
            function flush(io) return rawequal(io, kept) and fail("EIO") or nil end
            """
        )
        _ = try harness.decide(.read, offset: 7)
        for _ in 0..<2 {
            guard case .failure(let error) = harness.outcome(.write, offset: 0) else { break }
            #expect(error.text.contains("this io is over"))
        }
        #expect(throws: ScriptError.self) { try harness.ctl() }
        // The object belongs to the tag: it lives again with the tag's next IO.
        #expect(try harness.decide(.write, offset: 9) == .fail("EIO"))
        #expect(try harness.decide(.flush, tag: 1) == .pass)
    }

    @Test func `an io prints what it is`() throws {
        let harness = try ScriptHarness(
            """
            local kept, text
            function read(io) kept = io text = tostring(io) end
            function ctl() return text .. "|" .. tostring(kept) end
            """
        )
        _ = try harness.decide(.read, offset: 4096, length: 512)
        #expect(try harness.ctl() == "io (read 4096+512)|io (over)")
    }

    // MARK: ranges

    @Test func `ranges are edited and asked`() throws {
        let expression = """
            (function()
              set:add("1M", "8K"):add(0, 512):remove("1M", 4096)
              local out = {}
              for _, r in ipairs(set:list()) do out[#out + 1] = r[1] .. "+" .. r[2] end
              return table.concat(out, " "), #set, set:count(), set:bytes(),
                set:has(511), set:has(512), set:has(0, 0), set:has("1M"), set:has("1M", 4097),
                #set:clear(), tostring(set)
            end)()
            """
        let harness = try ScriptHarness(
            "local set = ranges(\"bad\")\nfunction ctl() return \(expression) end"
        )
        #expect(
            try harness.ctl()
                == "0+512 1052672+4096\t2\t2\t4608\ttrue\tfalse\tfalse\tfalse\ttrue\t0\tranges(\"bad\")"
        )
    }

    @Test func `a name is one set, in all queues; no name is a new one`() throws {
        let shared = SharedObjects(queues: 2)
        let text = """
            local bad, other = ranges("bad"), ranges()
            function read(io, offset, length) if bad:has(offset, length) then return fail("ENODATA") end end
            function ctl(where)
              bad:add(where, 1)
              return bad == ranges_again, bad == other, bad == 5, tostring(other)
            end
            ranges_again = ranges("bad")
            """
        let first = try ScriptHarness(text, shared: shared)
        let second = try ScriptHarness(text, shared: shared)
        #expect(try second.decide(.read, offset: 8192) == .pass)
        #expect(try first.ctl("8K") == "true\tfalse\tfalse\tranges()")
        #expect(try second.decide(.read, offset: 8192) == .fail("ENODATA"))
    }

    @Test(arguments: [
        ("set:add(0, 0)", "add: the length is 0"), ("set:add(-1, 1)", "bad offset -1"),
        ("set:add(0)", "bad length nil"), ("set:remove(0, 0)", "remove: the length is 0"),
        ("set:add(9223372036854775807, 1)", "past the largest offset"),
        ("set.add(5, 0, 1)", "a ranges object is expected before the colon"),
        ("set:has({})", "bad offset a table"), ("set.foo()", "nil value"),
        ("set:add(\"1.5\", 1)", "bad offset \"1.5\""),
    ])
    func `bad arguments of ranges are refused`(expression: String, message: String) throws {
        let harness = try ScriptHarness(
            "local set = ranges()\nfunction ctl() return \(expression) end"
        )
        #expect { try harness.ctl() } throws: { error in
            (error as? ScriptError)?.text.contains(message) == true
        }
    }

    @Test(arguments: [
        "ranges(\"\")", "ranges(5)", "ranges({})", "ranges((\"x\"):rep(65))", "ranges(\"a\\0b\")",
    ])
    func `bad names of ranges are refused`(expression: String) {
        #expect(loadError(expression)?.text.contains("ranges: bad name") == true)
        #expect(loadError("ranges((\"x\"):rep(64))") == nil)
    }

    // MARK: ctl

    @Test func `ctl gets words and answers values`() throws {
        let harness = try ScriptHarness(
            """
            function ctl(...)
              return select("#", ...), table.concat({...}, ","), nil, true, 1.5,
                setmetatable({}, {__tostring = function() return "T" end})
            end
            """
        )
        #expect(try harness.ctl("a", "", "b c") == "3\ta,,b c\tnil\ttrue\t1.5\tT")
        #expect(try harness.ctl() == "0\t\tnil\ttrue\t1.5\tT")
        #expect(try ScriptHarness("function ctl() end").ctl("x") == "")
    }

    @Test func `ctl that fails says where, and its answers are bounded`() throws {
        let harness = try ScriptHarness(
            "function ctl(word)\nif word == \"long\" then return (\"x\"):rep(100000) end\nerror(word) end"
        )
        #expect(throws: ScriptError(status: .runtime, text: "test.lua:3: boom")) {
            try harness.ctl("boom")
        }
        #expect(
            throws: ScriptError(status: .runtime, text: "ctl: the answer is longer than 64 KiB")
        ) {
            try harness.ctl("long")
        }
        let table = try ScriptHarness("function ctl() error({}) end")
        #expect(throws: ScriptError(status: .runtime, text: "(error object is a table value)")) {
            try table.ctl()
        }
    }

    @Test func `a script without ctl says so`() throws {
        let harness = try ScriptHarness("")
        #expect(!harness.hasCtl)
        #expect(throws: ScriptError(status: .runtime, text: "the script has no ctl function")) {
            try harness.ctl("x")
        }
    }

    // MARK: log

    @Test func `log writes one line whatever it is given`() throws {
        let pipe = try LinePipe()
        var options = Script.Options()
        options.logFD = pipe.writeFD
        let harness = try ScriptHarness(
            """
            log("loading")
            function read(io) log("a", 1, nil, true, fail("EIO")) log() print("two\\nlines\\r\\0") end
            function ctl() log(("x"):rep(5000)) end
            """,
            options: options
        )
        #expect(pipe.takeLines().map(\.text) == ["loading"])
        _ = try harness.decide(.read)
        #expect(
            pipe.takeLines().map(\.text) == ["a\t1\tnil\ttrue\tfail(\"EIO\")", "two\\nlines??"]
        )
        _ = try harness.ctl()
        #expect(pipe.takeLines().map(\.text) == [String(repeating: "x", count: 1000)])
    }

    @Test func `a log that nobody reads loses lines and never waits`() throws {
        let pipe = try LinePipe()
        var options = Script.Options()
        options.logFD = pipe.writeFD
        let harness = try ScriptHarness(
            "function read() for i = 1, 1000 do log((\"x\"):rep(999)) end end",
            options: options
        )
        _ = try harness.decide(.read)
        let dropped = unsafe us_script_log_dropped(harness.script.handle)
        #expect(dropped > 0)
        #expect(UInt64(pipe.takeLines().count) + dropped == 1000)
    }

    // MARK: random, time, constants

    private func numbers(seed: UInt64, queue: UInt16) throws -> String {
        var options = Script.Options()
        options.seed = seed
        options.queue = QueueID(queue)
        return try ScriptHarness(
            "function ctl() return randint(0, 1000000), math.random(1000000), random() end",
            options: options
        ).ctl()
    }

    @Test func `random numbers repeat with the seed and differ between seeds and queues`() throws {
        let first = try numbers(seed: 7, queue: 0)
        #expect(try numbers(seed: 7, queue: 0) == first)
        #expect(try numbers(seed: 8, queue: 0) != first)
        #expect(try numbers(seed: 7, queue: 1) != first)
    }

    @Test func `random is the documented stream`() throws {
        var options = Script.Options()
        options.seed = 12345
        options.queue = QueueID(3)
        let harness = try ScriptHarness(
            "function ctl() return randint(math.mininteger, math.maxinteger) end",
            options: options
        )
        var stream = SplitMix64(seed: 12345, queue: 3, stream: 0)
        for _ in 0..<5 {
            let next = stream.next()
            #expect(try harness.ctl() == "\(Int64(bitPattern: next &+ (1 << 63)))")
        }
    }

    @Test func `random numbers stay in their range and reach its ends`() throws {
        let harness = try ScriptHarness(
            """
            function ctl()
              local low, high, units = 9, 0, true
              for _ = 1, 2000 do
                local n, u = randint(3, 6), random()
                low, high = math.min(low, n), math.max(high, n)
                units = units and u >= 0 and u < 1 and random(5) >= 1 and random(5) <= 5
              end
              return low, high, units, randint(4, 4)
            end
            """
        )
        #expect(try harness.ctl() == "3\t6\ttrue\t4")
        for expression in ["randint(5, 4)", "random(0)", "randint()", "randint(1.5, 2)"] {
            #expect(throws: ScriptError.self) { _ = try ScriptHarness.value(of: expression) }
        }
    }

    @Test func `now is the queue's clock`() throws {
        let harness = try ScriptHarness(
            "function read() return delay(now()) end\nfunction ctl() return now() end"
        )
        #expect(try harness.decide(.read, now: 17).delay == 17)
        #expect(try harness.ctl(now: 1 << 62) == "\(1 << 62)")
    }

    @Test func `the constants are numbers of nanoseconds and bytes`() throws {
        #expect(
            try ScriptHarness.value(of: "us, ms, sec, KiB, MiB, GiB, TiB")
                == "1000\t1000000\t1000000000\t1024\t1048576\t1073741824\t1099511627776"
        )
    }
}
