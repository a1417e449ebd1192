import Testing

@testable import UblkScript

/// What a script cannot do to libraries, globals and the objects that it is given.
@Suite struct SandboxObjectTests {
    private func run(_ harness: ScriptHarness, _ op: IOOp = .write) {
        #expect(harness.outcome(op) == .success(.pass))
    }

    // MARK: Libraries

    @Test func `what a script puts in the place of library functions is used by that script only`()
        throws
    {
        let shared = SharedObjects(queues: 1)
        let harness = try ScriptHarness(
            """
            local function broken() error("mine") end
            for _, library in ipairs { string, table, math, utf8, dist } do
              for name in pairs(library) do library[name] = broken end
            end
            tostring, type, error, select, rawset, next = broken, broken, broken, broken, broken, broken
            string.rep = function() return "mine" end
            assert(("x"):rep(5) == "mine")
            local set = ranges("set"):add("1M", "4K")
            device { size = "1G" }
            rule { op = "read", range = set, error = "EIO", delay = "1ms" }
            function read() log(set, 1.5, fail("EIO")) return delay("1ms") + fail("EIO") end
            function write() string.rep = nil; assert(not pcall(function() return ("x"):rep(5) end)) end
            function ctl(word) return word, set, set:has("1M"), 1.5 end
            """,
            shared: shared
        )
        #expect(try harness.decide(.read) == Verdict(outcome: .fail(5), delay: 1_000_000))
        #expect(try harness.ctl("word") == "word\tranges(\"set\")\ttrue\t1.5")
        run(harness)
        let other = try ScriptHarness(
            "local time = dist.const(5) function ctl() return (\"x\"):rep(5), time() end",
            shared: shared
        )
        #expect(try other.ctl() == "xxxxx\t5")
    }

    // MARK: Globals

    @Test(arguments: [
        "rawset(_G, \"x\", 1)", "table.insert(_G, 1)", "table.move({1}, 1, 1, 1, _G)",
    ])
    func `a new global after the load phase is refused, however it is set`(text: String) throws {
        let harness = try ScriptHarness("function read()\n\(text)\nend\nfunction ctl() \(text) end")
        guard case .failure(let error) = harness.outcome() else {
            Issue.record("accepted")
            return
        }
        #expect(error.text.contains("assigning the new global "), "\(error)")
        #expect(throws: ScriptError.self) { try harness.ctl() }
    }

    @Test func `rawset sets everything else`() throws {
        let harness = try ScriptHarness(
            """
            assert(rawset(_G, "x", 1) == _G and x == 1)
            local own = setmetatable({}, { __newindex = function() error("not raw") end })
            function write()
              rawset(_G, "x", 2)
              assert(rawset(own, "y", 3) == own and own.y == 3 and x == 2)
              for _, bad in ipairs { {}, { own }, { own, 1 }, { 5, 1, 1 }, { _G }, { _G, 1 }, { own, nil, 1 } } do
                assert(not pcall(rawset, table.unpack(bad)))
              end
            end
            """
        )
        run(harness)
    }

    // MARK: Objects

    /// One of each that a script can hold while it serves, by name.
    private static let objects = """
        local objects = {
          ranges = ranges(), bucket = bucket { rate = "1M" }, counter = counter("c"), dict = dict("d"),
          backing = backing(), dist = dist.const("1ms"), verdict = fail("EIO"),
        }

        """

    @Test func `an object's methods and metatable stay what they are`() throws {
        let harness = try ScriptHarness(
            Self.objects + """
                local function check(name, object)
                  for _, key in ipairs { "add", "take", "x", 1 } do
                    local ok, why = pcall(function() object[key] = print end)
                    assert(not ok and why:find("cannot be assigned to", 1, true), name)
                  end
                  assert(getmetatable(object) == false, name)
                  assert(not pcall(setmetatable, object, {}), name)
                  assert(not pcall(rawset, object, "x", 1) and not pcall(rawget, object, "x"), name)
                  assert(not pcall(table.insert, object, 1), name)
                end
                function write(io)
                  check("io", io)
                  for name, object in pairs(objects) do check(name, object) end
                end
                function read() objects.ranges.add = print end
                """
        )
        run(harness)
        #expect(
            harness.outcome(.read)
                == .failure(
                    ScriptError(
                        status: .runtime,
                        text:
                            "test.lua:19: the fields of a ranges object cannot be assigned to: \"add\""
                    )
                )
        )
    }

    @Test func `every method refuses every object that is not its own`() throws {
        let harness = try ScriptHarness(
            Self.objects + """
                -- With the number of their arguments.
                local methods = {
                  ranges = "add2 remove2 clear0 has2 count0 bytes0 list0", bucket = "take1 rate2",
                  counter = "add1 get0 set1", dict = "get1 set2 add2 count0 clear0", backing = "read2",
                  io = "byte1 u161 u321 u641 data2 hash2 flip2 patch2",
                }
                local others = { {}, "text", "", 5, 1.5, true, print, setmetatable({}, { __index = objects.ranges }) }
                local function check(owner, name, method, object, number)
                  local ok, why = pcall(method, object, table.unpack({ 0, 1 }, 1, number))
                  if ok or not why:find("expected before the colon", 1, true) then
                    error(owner .. "." .. name .. " of " .. tostring(object) .. ": " .. tostring(why))
                  end
                end
                local count = 0
                function write(io)
                  objects.io = io
                  for owner, names in pairs(methods) do
                    for name, number in names:gmatch("(%w+)(%d)") do
                      local method = objects[owner][name]
                      check(owner, name, method, nil, number)
                      for _, object in ipairs(others) do check(owner, name, method, object, number) end
                      for kind, object in pairs(objects) do
                        if kind ~= owner then check(owner, name, method, object, number) end
                      end
                      count = count + 1
                    end
                  end
                end
                function ctl() return count end
                """
        )
        run(harness)
        #expect(try harness.ctl() == "26")
    }

    @Test func `the disk of a test stays what it is, and its methods are for disks only`() throws {
        let script =
            "device { size = \"1M\" } " + Self.objects + """
                test("t", function(disk)
                  local ok, why = pcall(function() disk.read = print end)
                  expect(ok, false) expect(why:match("the fields of a disk .*"), 'the fields of a disk cannot be assigned to: "read"')
                  expect(getmetatable(disk), false) expect(pcall(setmetatable, disk, {}), false)
                  objects.disk = disk
                  local others = { {}, "text", 5, true, print }
                  for _, name in ipairs { "read", "write", "discard", "write_zeroes", "wait", "ctl" } do
                    for _, object in pairs(others) do
                      local ok, why = pcall(disk[name], object, 0, name ~= "wait" and 512 or nil)
                      expect(ok, false) expect(why:find("a disk is expected before the colon", 1, true) ~= nil, true, name)
                    end
                    for kind, object in pairs(objects) do
                      if kind ~= "disk" then expect(pcall(disk[name], object, 0, 512), false, name) end
                    end
                  end
                  expect(pcall(disk.flush, {}), false) expect(pcall(disk.send, {}, "read", 0, 512), false)
                  for _, method in ipairs { objects.ranges.add, objects.bucket.take, objects.dict.get, objects.counter.add } do
                    expect(pcall(method, disk, 0, 1), false)
                  end
                end)
                """
        let source = ScriptSource(path: "test.lua", text: script)
        let outcomes = try ScriptTestRun(source, overrides: []).run()
        #expect(outcomes.map(\.failure) == [nil])
    }

    // MARK: An io that is over

    @Test func `an io that is over cannot be used, by methods that were taken from it neither`()
        throws
    {
        let harness = try ScriptHarness(
            """
            local kept, methods, count = nil, {}, 0
            local function check()
              for name, method in pairs(methods) do
                local ok, why = pcall(method, kept, 0, not name:find("^[bu]") and 0 or nil)
                if ok or not why:find("this io is over", 1, true) then error(name .. ": " .. tostring(why)) end
              end
              for _, name in ipairs { "offset", "op", "data", "flip", "nothing" } do
                local ok, why = pcall(function() return kept[name] end)
                assert(not ok and why:find("this io is over", 1, true), name)
              end
              assert(tostring(kept) == "io (over)")
              count = count + 1
            end
            function write(io)
              if kept then return check() end
              kept = io
              for name in ("byte u16 u32 u64 data hash flip patch"):gmatch("%w+") do methods[name] = io[name] end
              assert(pcall(methods.data, kept, 0, 0))
            end
            function read(io)
              check()
              methods.data = nil -- a read has none
              io:flip(0, 0)
            end
            function ctl() check() return count end
            every("1s", check)
            """
        )
        #expect(try harness.decide(.write, tag: 0) == .pass)
        #expect(try harness.ctl() == "1")
        #expect(try harness.decide(.write, tag: 1) == .pass)
        #expect(try harness.decide(.read, tag: 2) == .pass)
        try harness.script.runTimer(now: Instant(nanoseconds: 1_000_000_000))
        #expect(try harness.ctl() == "5")
    }
}
