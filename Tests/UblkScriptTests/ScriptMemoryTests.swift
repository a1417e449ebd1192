import Testing

@testable import UblkScript

/// Memory that ends at any allocation of Lua's: an error, never a crash.
@Suite struct ScriptMemoryTests {
    private static let text = """
        local p = params { len = "1M" }
        device { size = "64M" }
        local bad, seen, slow = ranges("bad"), dict("seen"), bucket { iops = 1000 }
        bad:add("8M", p.len)
        rule { op = "read", range = { "4M", "4K" }, times = 3, error = "EIO" }
        local function name(io) return ("%s-%d"):format(io.op, io.offset) end
        function write(io, offset, length)
          seen:set(name(io), #io:data():rep(3))
          if bad:has(offset, length) then return fail("ENOSPC") end
          after("1ms", function() bad:remove(offset, length) end)
        end
        function ctl(word) return word:rep(10) end
        """

    private func options(_ memoryBytes: UInt64) -> Script.Options {
        var options = Script.Options()
        options.memoryBytes = memoryBytes
        return options
    }

    @Test func `a script whose memory ends while it is loaded is refused, wherever`() throws {
        let all = UInt64(try ScriptHarness(Self.text).script.memoryUsedBytes)
        var refused = 0
        // Garbage comes on top of what is used in the end.
        for limit in stride(from: 0, to: 2 * all, by: 40) {
            do throws(ScriptError) {
                _ = try ScriptHarness(Self.text, options: options(limit))
            } catch {
                refused += 1
                #expect(error.status == .memory, "at \(limit) of \(all) bytes: \(error)")
            }
        }
        // Some of what is used in the end is there before the limit holds.
        #expect(refused > Int(all) / 50)
    }

    @Test func `a handler whose memory ends raises an error, wherever`() throws {
        let all = UInt64(try ScriptHarness(Self.text).script.memoryUsedBytes)
        var refused = 0
        for limit in stride(from: all, to: all + 8192, by: 40) {
            guard let harness = try? ScriptHarness(Self.text, options: options(limit)) else {
                continue
            }
            for round in 0..<4 as Range<UInt64> {
                do throws(ScriptError) {
                    _ = try harness.decide(.write, offset: round << 22, length: 512)
                } catch {
                    refused += 1
                    #expect(error.status == .memory, "at \(limit) of \(all) bytes: \(error)")
                }
            }
        }
        #expect(refused > 0)
    }
}
