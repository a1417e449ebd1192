import CLua
import SystemPackage
import Testing

@testable import UblkScript

/// What handlers see and change of an IO's data: `io:byte()` and others, `done(data)`, `io:flip()`, `b:read()`.
@Suite struct DataAccessTests {
    private func run(
        _ script: String,
        _ requests: [SimulatedRequest],
        settings: [String: String] = [:],
        depth: Int = 1,
        faults: FileFaults = FileFaults()
    ) throws -> (check: DataCheck, result: Simulation.Result) {
        let result = try simulate(script, settings: settings) {
            $0.workload = Workload(requests, depth: depth)
            $0.faults = faults
        }
        return (try #require(result.report.data), result)
    }

    private static let onFile = ["backing": "file", "file": "/x"]

    // MARK: Looking at a write

    /// The value of an expression about the write of a block whose bytes count up.
    private func value(_ expression: String, length: UInt64 = 4096) throws -> String {
        let harness = try ScriptHarness(
            """
            local seen
            function write(io) seen = \(expression) end
            function ctl() return seen end
            """
        )
        for at in 0..<Int(length) {
            unsafe harness.data.storeBytes(of: UInt8(at % 256), toByteOffset: at, as: UInt8.self)
        }
        _ = try harness.decide(.write, length: length)
        return try harness.ctl()
    }

    @Test func `numbers in the data are little-endian, counted from the first byte`() throws {
        #expect(try value("io:byte(0) .. ' ' .. io:byte(4095)") == "0 255")
        #expect(try value("('%x %x'):format(io:u16(1), io:u32(4))") == "201 7060504")
        #expect(try value("('%x'):format(io:u64(0x80))") == "8786858483828180")
    }

    @Test func `data is a piece, or all`() throws {
        #expect(try value("io:data(65, 3)") == "ABC")
        #expect(try value("#io:data() .. ' ' .. #io:data(4000)") == "4096 96")
        #expect(try value("#io:data(4096, 0)") == "0")
    }

    @Test func `a hash is the same for the same data only`() throws {
        #expect(try value("io:hash(0, 256) == io:hash(256, 256)") == "true")
        #expect(try value("io:hash(0, 256) == io:hash(1, 256)") == "false")
        #expect(try value("io:hash(0, 7) == io:hash(0, 8)") == "false")
        #expect(try value("io:hash() == io:hash(0, 4096)") == "true")
    }

    @Test(arguments: [
        ("io:byte(4096)", "bytes 4096 to 4097 are asked for of an IO of 4096"),
        ("io:u64(4090)", "bytes 4090 to 4098"), ("io:data(0, 5000)", "bytes 0 to 5000"),
        ("io.byte(5, 0)", "an io is expected"), ("io:byte(-1)", "position"),
        ("io:flip(4096, 0)", "byte 4096 is past the end"), ("io:flip(0, 8)", "0 to 7"),
        ("io:patch(4095, 'ab')", "byte 4096 is past"),
        ("(function() for i = 0, 16 do io:flip(i, 0) end end)()", "16 changes"),
    ])
    func `what is not in the IO is refused`(expression: String, part: String) {
        #expect { try value(expression) } throws: {
            let text = "\($0)"
            return text.contains("test.lua:2: ") && text.contains(part)
        }
    }

    @Test func `large data comes in pieces only`() throws {
        let harness = try ScriptHarness("function write(io) io:data() end")
        #expect { try harness.decide(.write, length: 1 << 17) } throws: {
            "\($0)".contains("131072 bytes; at most 65536 at a time")
        }
    }

    @Test func `a read and a flush have no data`() throws {
        let harness = try ScriptHarness(
            "local function f(io) return io:byte(0) end\nread, flush, discard = f, f, f"
        )
        for (op, part) in [
            (IOOp.read, "a read has no data before it is done"), (.flush, "a flush has no data"),
            (.discard, "a discard has no data"),
        ] {
            guard case .failure(let error) = harness.outcome(op) else {
                Issue.record("accepted")
                continue
            }
            #expect(error.text.contains(part))
        }
    }

    // MARK: Answering

    @Test func `a script that keeps the data itself is a disk`() throws {
        let script = """
            local blocks = {}
            function write(io, offset, length)
              for at = 0, length - 512, 512 do blocks[offset + at] = io:data(at, 512) end
              return done()
            end
            local zeroes = ("\\0"):rep(512)
            function read(io, offset, length)
              local parts = {}
              for at = 0, length - 512, 512 do parts[#parts + 1] = blocks[offset + at] or zeroes end
              return done(table.concat(parts))
            end
            """
        let result = try simulate(script, settings: ["size": "64K"]) {
            $0.workload.requests = 1000
            $0.workload.weights = [.read: 1, .write: 1]
        }
        #expect(result.report.data?.differing == 0)
        #expect(result.report.errors.isEmpty && result.action("answered") == 1000)
    }

    @Test func `data of another length, and none, is refused for a read`() throws {
        for (verdict, part) in [
            ("done('x')", "1 bytes for a read of 4096"), ("done()", "which a read cannot do"),
        ] {
            let harness = try ScriptHarness("function read() return \(verdict) end")
            guard case .failure(let error) = harness.outcome(.read) else {
                Issue.record("accepted")
                continue
            }
            #expect(error.text.contains(part))
        }
        #expect(
            loadError("rule { op = 'read', verdict = done('x') }")?.text.contains("handlers")
                == true
        )
        #expect(loadError("local v = done(5)")?.text.contains("a string") == true)
    }

    @Test func `an answer can wait`() throws {
        let script = """
            local zeroes = ("\\0"):rep(4096)
            function read() return delay("5ms") + done(zeroes) end
            """
        let (check, result) = try run(script, [.read(0), .write(0), .read(0)])
        #expect(check.zeroes == 8)
        #expect(result.finished[0].nanoseconds == 5_000_000)
    }

    // MARK: Changing

    @Test func `a flipped bit of a read is one sector, and gone the next time`() throws {
        let script = """
            local count = 0
            function read(io) count = count + 1; if count == 1 then io:flip(600, 3) end end
            """
        let (check, result) = try run(script, [.write(0), .read(0), .read(0)])
        #expect(check.corrupt == 1 && check.differing == 1)
        #expect(result.action("corrupted") == 1)
    }

    @Test func `a patched write is stored as it was patched`() throws {
        let script = """
            function write(io) io:patch(100, "twenty bytes, no less") return delay("1ms") end
            """
        for settings in [[:], Self.onFile] {
            let (check, result) = try run(
                script,
                [.write(0), .read(0), .read(0)],
                settings: settings
            )
            #expect(check.corrupt == 2)
            #expect(result.action("corrupted") == 1 && result.action("delayed") == 1)
        }
    }

    @Test func `changes and corrupt() exclude each other`() throws {
        let harness = try ScriptHarness(
            "function write(io) io:flip(0, 0) return corrupt('flip') end"
        )
        guard case .failure(let error) = harness.outcome(.write) else {
            Issue.record("accepted")
            return
        }
        #expect(error.text.contains("exclude each other"))
    }

    // MARK: Reading a backing

    /// A mirror whose reads compare both sides.
    @Test(arguments: [0.0, 0.5])
    func `a handler reads from memory and files, whatever order answers come in`(chance: Double)
        throws
    {
        let script = """
            local own, other = backing(), backing { file = "/b", size = "64K" }
            function write(io, offset) return to(offset) + to(offset, other) end
            function read(io, offset, length)
              local mine, theirs = own:read(offset, length), other:read(offset, length)
              if mine ~= theirs or #mine ~= length then return fail("EILSEQ") end
              return done(mine)
            end
            """
        for settings in [["size": "64K"], Self.onFile.merging(["size": "64K"]) { $1 }] {
            let result = try simulate(script, settings: settings) {
                $0.workload.requests = 1000
                $0.workload.depth = 1
                $0.workload.weights = [.read: 1, .write: 1]
                $0.faults = FileFaults(shortChance: chance, retryChance: chance)
            }
            #expect(result.report.data?.differing == 0)
            #expect(result.report.errors.isEmpty && result.report.scriptErrors.count == 0)
            #expect(result.action("answered") > 300)
        }
    }

    @Test func `many handlers wait at once, each gets its own data`() throws {
        let script = """
            local own = backing()
            function read(io, offset, length)
              local first = own:read(offset, 512)
              local rest = own:read(offset + 512, length - 512)
              return done(first .. rest)
            end
            """
        let result = try simulate(script, settings: Self.onFile) {
            $0.workload.requests = 4000
            $0.workload.depth = 32
            $0.workload.blockBytes = 4096
            $0.workload.blockBytesMax = 16384
            $0.workload.weights = [.read: 3, .write: 1]
        }
        #expect(result.report.data?.differing == 0)
        #expect(result.report.errors.isEmpty && result.report.scriptErrors.count == 0)
    }

    @Test func `a read that fails gives nil and the errno`() throws {
        let script = """
            local own = backing()
            function write(io) local data, why = own:read(0, 512); return data == nil and fail(why) end
            """
        let (_, result) = try run(
            script,
            [.write(0)],
            settings: Self.onFile,
            faults: FileFaults(failing: [.read: Errno.noData])
        )
        #expect(result.outcomes == ["ENODATA"])
    }

    @Test func `pcall does not get in the way`() throws {
        let script = """
            local own = backing()
            function read(io, offset, length)
              local ok, data = pcall(own.read, own, offset, length)
              local bad = pcall(error, "x")
              return ok and not bad and done(data)
            end
            """
        for settings in [[:], Self.onFile] {
            let (check, result) = try run(script, [.write(0), .read(0)], settings: settings)
            #expect(check.differing == 0 && result.report.scriptErrors.count == 0)
        }
    }

    @Test(arguments: [[:], Self.onFile])
    func `reading without an end is a script error`(settings: [String: String]) throws {
        let script = "local own = backing()\nfunction read() while true do own:read(0, 512) end end"
        let (_, result) = try run(script, [.read(0), .write(0)], settings: settings)
        #expect(result.outcomes == ["EIO", ""])
        #expect(result.report.scriptErrors.texts[0].contains("read 1000 times"))
    }

    @Test func `work between many reads is within one budget`() throws {
        let script = """
            local own = backing()
            function read()
              for i = 1, 900 do own:read(0, 512) for j = 1, 200000 do end end
            end
            """
        let (_, result) = try run(script, [.read(0)], settings: ["budget": "20ms"])
        #expect(result.outcomes == ["EIO"])
        #expect(result.report.scriptErrors.texts[0].contains("over its time budget"))
    }

    @Test func `a patch that does not fit leaves nothing`() throws {
        let script = """
            function write(io)
              local long = pcall(io.patch, io, 0, ("x"):rep(300))
              local late = pcall(io.patch, io, 4090, "1234567")
              io:patch(8, ("x"):rep(256))
              local full = pcall(io.flip, io, 0, 0)
              if long or late or full then return fail("EIO") end
            end
            """
        let (check, result) = try run(script, [.write(0), .read(0)])
        #expect(result.outcomes == ["", ""])
        #expect(check.differing == 1, "the first sector only")
    }

    @Test(arguments: [
        ("own:read(0, 0)", "1 to 65536"), ("own:read(0, 65537)", "1 to 65536"),
        ("own:read('16M', 1)", "past the end of the backing"),
        ("own.read(1, 2, 3)", "a backing is expected"),
        ("table.sort({ 1, 2, 3 }, function() own:read(0, 1) end)", "not inside of a sort"),
    ])
    func `a read that cannot be is refused`(text: String, part: String) throws {
        let script = "local own = backing()\nfunction read() \(text) end"
        let (_, result) = try run(script, [.read(0)])
        let error = result.report.scriptErrors.texts.first ?? ""
        #expect(error.contains("test.lua:2: ") && error.contains(part), "\(error)")
    }

    @Test func `only handlers read`() throws {
        #expect(loadError("backing():read(0, 1)")?.text.contains("load phase") == true)
        let harness = try ScriptHarness(
            "local b = backing()\nfunction ctl() return b:read(0, 1) end"
        )
        #expect { try harness.ctl() } throws: { "\($0)".contains("ctl phase") }
    }

    @Test func `a device that goes away does not wait for handlers`() throws {
        let script = """
            local own = backing()
            function write(io, offset) own:read(offset, 512); return fail("EIO") end
            """
        let result = try simulate(script, settings: Self.onFile) {
            $0.workload = Workload([.write(0), .write(4096)], depth: 2)
            // While both read.
            $0.interventions = [.init(at: Instant(nanoseconds: 20_000), message: .drain)]
        }
        #expect(result.finished.count == 2)
        #expect(result.report.scriptErrors.count == 0)
    }

    @Test func `what a handler left open does not read after its error`() throws {
        let script = """
            local own = backing()
            local late = setmetatable({}, { __close = function() own:read(0, 512) end })
            function read(io, offset) local guard <close> = late; error("early") end
            function write(io, offset) local guard <close> = late; own:read(0, 512) end
            """
        for settings in [[:], Self.onFile] {
            let (check, result) = try run(
                script,
                [.read(0), .write(0), .read(0), .write(4096), .read(0)],
                settings: settings
            )
            #expect(result.outcomes == ["EIO", "", "EIO", "", "EIO"])
            #expect(check.differing == 0)
            #expect(result.report.scriptErrors.texts == ["test.lua:3: early"])
        }
    }

    @Test func `a rule's delay does not outlive a device whose handler reads`() throws {
        let script = """
            local own = backing()
            rule { op = "write", delay = "1h" }
            function write(io) own:read(0, 512) end
            """
        let result = try simulate(script, settings: Self.onFile) {
            $0.workload = Workload([.write(0)])
            $0.interventions = [.init(at: Instant(nanoseconds: 20_000), message: .drain)]
        }
        #expect(result.report.virtualSeconds < 1)
    }

    @Test func `a handler that loops after a read is interrupted, its open variables too`() throws {
        let script = """
            local own = backing()
            local endless = setmetatable({}, { __close = function() while true do end end })
            function read(io, offset)
              local guard <close> = endless
              own:read(0, 512)
              while true do pcall(function() while true do end end) end
            end
            """
        let (_, result) = try run(
            script,
            [.read(0), .write(0), .read(0)],
            settings: Self.onFile.merging(["budget": "20ms"]) { $1 }
        )
        #expect(result.outcomes == ["EIO", "", "EIO"])
        #expect(result.report.scriptErrors.texts[0].contains("over its time budget"))
    }
}
