import CLua
import Testing

@testable import UblkScript

/// Effects from a rule to the medium and back: other kinds of corruption, writes that arrive in pieces, FUA that is
/// ignored, and rules that only tell.
@Suite struct EffectKindTests {
    /// What fails of the tests in a script.
    private func failures(_ text: String, settings: [String: String] = [:]) throws -> [String] {
        var overrides = [Setting(key: "seed", value: .integer(1), origin: "test")]
        for (key, value) in settings.merging(["size": "16M"], uniquingKeysWith: { own, _ in own }) {
            overrides.append(Setting(key: key, value: .string(value), origin: "test"))
        }
        let outcomes = try ScriptTestRun(
            ScriptSource(path: "t.lua", text: text),
            overrides: overrides
        )
        .run()
        #expect(!outcomes.isEmpty)
        return outcomes.compactMap(\.failure)
    }

    /// 4 KiB that are different everywhere, and which bytes of others differ from them.
    private static let lua = """
        local data = {}
        for i = 0, 4095 do data[#data + 1] = string.char((i * 7 + i // 256) % 256) end
        data = table.concat(data)
        local function differing(other)
          local list = {}
          for i = 1, #data do if data:byte(i) ~= other:byte(i) then list[#list + 1] = i - 1 end end
          return list
        end

        """

    // MARK: Corruption

    @Test func `a seed damages the byte that it always did`() throws {
        let failed = try failures(
            """
            rule { op = "read", verdict = corrupt("byte") }
            test("t", function(disk)
              local damaged = {}
              for place, byte in disk:read(0, 4096).data:gmatch("()([^\\0])") do
                damaged[#damaged + 1] = place .. "=" .. byte:byte()
              end
              expect(table.concat(damaged, " "), "3978=36")
            end)
            """
        )
        #expect(failed == [])
    }

    @Test func `one byte anywhere becomes another, of reads and of writes`() throws {
        let failed = try failures(
            Self.lua + """
                rule { op = "read", range = { 0, "1M" }, verdict = corrupt("byte") }
                rule { op = "write", range = { "1M", "1M" }, verdict = corrupt { mode = "byte", at = 100, len = 1 } }
                test("t", function(disk)
                  disk:write(0, data)
                  local places = {}
                  for _ = 1, 50 do
                    local list = differing(disk:read(0, "4K").data)
                    expect(#list, 1)
                    places[list[1]] = true
                  end
                  local different = 0
                  for _ in pairs(places) do different = different + 1 end
                  assert(different > 40, different)
                  disk:write("1M", data)
                  local list = differing(disk:read("1M", "4K").data)
                  expect(#list, 1)
                  expect(list[1], 100)
                end)
                """
        )
        #expect(failed == [])
    }

    @Test func `swapped bytes are swapped back when they are swapped twice`() throws {
        let failed = try failures(
            Self.lua + """
                rule { op = { "read", "write" }, range = { 0, "1M" }, verdict = corrupt("swab") }
                rule { op = "read", range = { "1M", "1M" }, verdict = corrupt { mode = "swab", at = 10, len = 5 } }
                test("t", function(disk)
                  disk:write(0, data)
                  expect(disk:read(0, "4K").data, data)
                  disk:write("1M", data)
                  local read = disk:read("1M", "4K").data
                  expect(read:byte(11), data:byte(12))
                  expect(read:byte(12), data:byte(11))
                  expect(#differing(read), 4, "an odd byte stays")
                end)
                """
        )
        #expect(failed == [])
    }

    @Test func `a stuck wire is stuck for every read and not on the medium`() throws {
        let failed = try failures(
            Self.lua + """
                local wire = corrupt { mode = "stuck", at = 100, bit = 3, value = 1 }
                rule { op = "read", state = "never", verdict = wire }
                rule { name = "wire", op = "read", every = 2, verdict = wire }
                test("t", function(disk)
                  disk:write(0, data)
                  local function bad() return #differing(disk:read(0, "4K").data) end
                  expect(bad(), 0)
                  local some = bad()
                  assert(some >= 1 and some <= 8, some) -- sectors whose bit was not set
                  expect(bad(), 0)
                  expect(bad(), some)
                  disk:ctl("rule", "off", "wire")
                  expect(bad() + bad(), 0)
                end)
                """
        )
        #expect(failed == [])
    }

    // MARK: Pieces

    private func pieces(_ text: String, length: UInt64, seed: UInt64) throws -> [Range<UInt64>] {
        let source = ScriptSource(path: "t.lua", text: "rule { op = \"write\", verdict = \(text) }")
        let script = try Script(source, shared: SharedObjects(queues: 1), options: .init())
        var decision = try script.declarations().rules[0].decision
        decision.store_seed = seed
        var write = TornWrite(decision, length: length)
        var pieces: [Range<UInt64>] = []
        write.forEachSegment { pieces.append($0) }
        return pieces
    }

    @Test func `random pieces are whole units, some kept and some lost`() throws {
        var kept = [Int](repeating: 0, count: 8)
        for seed in 1...400 {
            let list = try pieces("store(\"random\")", length: 4096, seed: UInt64(seed))
            let bytes = list.reduce(0) { $0 + $1.count }
            #expect(bytes >= 512 && bytes < 4096)
            for (one, next) in zip(list, list.dropFirst()) {
                #expect(one.upperBound < next.lowerBound)
            }
            for piece in list {
                #expect(piece.lowerBound % 512 == 0 && piece.upperBound % 512 == 0)
                for unit in piece.lowerBound / 512..<piece.upperBound / 512 { kept[Int(unit)] += 1 }
            }
        }
        #expect(
            kept.allSatisfy { (140...260).contains($0) },
            "each unit as often as another: \(kept)"
        )
    }

    @Test func `a number of units is kept, in at most eight pieces`() throws {
        for seed in 1...50 as ClosedRange<UInt64> {
            let seven = try pieces(
                "store { keep = \"random\", units = 7 }",
                length: 4096,
                seed: seed
            )
            #expect(seven.reduce(0) { $0 + $1.count } == 3584)
            let many = try pieces("store { keep = \"random\" }", length: 1 << 19, seed: seed)
            #expect((1...8).contains(many.count))
            let short = try pieces(
                "store { keep = \"random\", unit = 4096 }",
                length: 5120,
                seed: seed
            )
            #expect(short == [0..<4096] || short == [4096..<5120])
        }
        #expect(
            try pieces("store(\"random\")", length: 512, seed: 1).isEmpty,
            "one unit, and it is lost"
        )
        let all = "store { keep = \"random\", units = 99 }"
        #expect(try pieces(all, length: 4096, seed: 1) == [0..<4096])
    }

    @Test func `what has more pieces than a write can have is spread over all of it`() throws {
        var kept = [Int](repeating: 0, count: 8)
        for seed in 1...400 as ClosedRange<UInt64> {
            let text = "store { keep = \"random\", units = 64 }"
            let list = try pieces(text, length: 1 << 17, seed: seed)
            #expect(list.reduce(0) { $0 + $1.count } == 64 * 512 && list.count <= 8)
            for (one, next) in zip(list, list.dropFirst()) {
                #expect(one.upperBound < next.lowerBound)
            }
            for piece in list {
                for unit in piece.lowerBound / 512..<piece.upperBound / 512 {
                    kept[Int(unit / 32)] += 1
                }
            }
        }
        #expect(kept.allSatisfy { (2200...4200).contains($0) }, "of 3200 each: \(kept)")
    }

    @Test func `what is stored in pieces is healed in pieces`() throws {
        let failed = try failures(
            """
            local bad = ranges("bad")
            rule { op = "read", range = bad, error = "ENODATA" }
            rule { op = "write", range = bad, heal = true }
            rule { op = "write", verdict = store { keep = "random", units = 3 } }
            rule { name = "one", op = "write", len = 512, verdict = store("random") }
            test("t", function(disk)
              bad:add(0, 4096)
              disk:ctl("ranges", "bad", "add", 0, 4096)
              disk:write(0, "4K")
              local healed = 0
              for s = 0, 7 do healed = healed + (disk:read(s * 512, 512).errno and 0 or 1) end
              expect(healed, 3)
              disk:ctl("ranges", "bad", "add", 8192, 512)
              disk:write(8192, 512)
              expect(disk:read(8192, 512).errno, "ENODATA", "the only unit was lost")
            end)
            """
        )
        #expect(failed == [])
    }

    @Test(arguments: ["memory", "file"])
    func `pieces arrive where they belong, and the rest is old`(backing: String) throws {
        let text =
            Self.lua + """
                rule { name = "torn", op = "write", nth = 2, verdict = store { keep = "random", units = 3 } }
                rule { op = "write", nth = 3, verdict = fail("EIO") + store { keep = "random", units = 2 } }
                rule { op = "write", nth = 4, verdict = zero() + store("random") }
                test("t", function(disk)
                  local function sectors(new)
                    local read, count = disk:read(0, "4K").data, 0
                    for s = 0, 7 do
                      local old, now = data:sub(s * 512 + 1, s * 512 + 512), read:sub(s * 512 + 1, s * 512 + 512)
                      if now == new:rep(512) then count = count + 1 else expect(now, old) end
                    end
                    return count
                  end
                  disk:write(0, data)
                  expect(disk:write(0, ("x"):rep(4096)).errno, nil)
                  expect(sectors("x"), 3)
                  disk:ctl("rule", "off", "all")
                  disk:write(0, data)
                  disk:ctl("rule", "on", "all")
                  disk:ctl("rule", "off", "torn")
                  expect(disk:write(0, ("y"):rep(4096)).errno, "EIO")
                  expect(sectors("y"), 2)
                end)
                """
        let settings = backing == "file" ? ["backing": "file", "file": "/x"] : [:]
        #expect(try failures(text, settings: settings) == [])
    }

    // MARK: FUA

    private func writes(_ script: String, cache: String = "volatile") throws -> [FileOperation.Kind:
        Int]
    {
        let fua = SimulatedRequest(op: .write, flags: .fua, offsetBytes: 0, lengthBytes: 4096)
        let settings = ["backing": "file", "file": "/x", "cache": cache]
        return try simulate(script, settings: settings) {
            $0.workload = Workload(Array(repeating: fua, count: 4) + [.write(0)])
            $0.workload.depth = 1
        }.fileOperations
    }

    @Test func `FUA is ignored never, sometimes and always`() throws {
        let rule = "op = \"write\", flags = \"fua\", ignore_fua = true"
        #expect(try writes("rule { \(rule), nth = 99 }") == [.writeDurably: 4, .write: 1])
        #expect(try writes("rule { \(rule), every = 2 }") == [.writeDurably: 2, .write: 3])
        #expect(try writes("rule { \(rule) }") == [.write: 5])
        #expect(try writes("function write() return ignore_fua() end") == [.write: 5])
        #expect(
            try writes("rule { \(rule) } function write() return delay(1) end") == [.write: 5],
            "a handler that decides something else keeps it"
        )
        #expect(
            try writes("rule { op = \"write\", ignore_fua = true }", cache: "none") == [
                .writeDurably: 5
            ],
            "without a cache it is not FUA that makes writes durable"
        )
    }

    // MARK: Telling

    @Test func `a rule that logs tells of what fits, and does nothing to it`() throws {
        let result = try simulate("rule { name = \"seen\", op = \"write\", every = 2, log = true }")
        {
            $0.workload = Workload([.write(0), .read(0), .write(4096), .write(0), .write(8192)])
            $0.workload.depth = 1
        }
        #expect(result.outcomes.allSatisfy { $0 == "" })
        let text = LedgerText(
            script: "test.lua",
            rules: [RuleLabel(line: 1, name: "seen", number: 1)],
            seed: 1
        )
        let lines = result.ledger.read(from: 0, limit: .max).records.map {
            text.line($0, queue: QueueID(0))
        }
        #expect(lines.count == 2)
        #expect(lines[0].hasSuffix("write 4096+4096  test.lua:1 seen: acted"))
    }
}
