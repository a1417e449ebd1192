import CLua
import SystemPackage
import Testing

@testable import UblkScript

/// `backing{}` and `to()`: other places for the bytes of an IO.
@Suite struct TargetTests {
    private func run(
        _ script: String,
        _ requests: [SimulatedRequest],
        settings: [String: String] = [:]
    ) throws -> (check: DataCheck, result: Simulation.Result) {
        let result = try simulate(script, settings: settings) { $0.workload = Workload(requests) }
        return (try #require(result.report.data), result)
    }

    /// Everything goes to a second backing, each block to another place.
    @Test(arguments: ["size = \"1M\"", "file = \"/b\", size = \"1M\""])
    func `all that a script sends elsewhere comes back from there`(backing: String) throws {
        let script = """
            local other = backing { \(backing) }
            local function there(io, offset, length) return to(2^20 // 1 - offset - 4096, other) end
            read, write, discard = there, there, there
            """
        let result = try simulate(script, settings: ["size": "1M"]) {
            $0.workload.requests = 2000
            $0.workload.blockBytes = 4096
            $0.workload.blockBytesMax = 4096
            $0.workload.weights[.writeZeroes] = 0
        }
        let check = try #require(result.report.data)
        #expect(check.differing == 0 && check.reads > 100)
        #expect(result.report.errors.isEmpty)
    }

    @Test func `a write to two backings is in both, and a read may take either`() throws {
        let script = """
            local a, b = backing { size = "1M" }, backing { file = "/b", size = "1M" }
            local turn = 0
            function write(io, offset) return to(offset, a) + to(offset, b) end
            function read(io, offset) turn = turn + 1; return to(offset, turn % 2 == 0 and a or b) end
            """
        let (check, result) = try run(
            script,
            [.write(0), .read(0), .read(0), .write(8192), .read(8192), .read(8192)],
            settings: ["size": "1M"]
        )
        #expect(check.differing == 0 && check.reads == 4)
        #expect(result.fileOperations[.write] == 2 && result.fileOperations[.read] == 2)
    }

    @Test func `parts of one IO go to different places`() throws {
        let script = """
            local a, b = backing { size = "1M" }, backing { size = "1M" }
            local function split(io, offset, length)
              if length <= 4096 then return to(offset, offset < 4096 and a or b) end
              return to(0, a, 0, 4096) + to(4096, b, 4096, length - 4096)
            end
            read, write = split, split
            """
        let (check, _) = try run(
            script,
            [
                .write(0, 16384), .read(0), .read(4096), .read(0, 16384), .write(4096),
                .read(0, 16384),
            ],
            settings: ["size": "1M"]
        )
        #expect(check.differing == 0 && check.blocks == 80)
    }

    @Test func `what no part of a read covers is zero`() throws {
        let script = """
            function read(io, offset, length) return to(offset, nil, 512, 512) end
            """
        let (check, _) = try run(script, [.write(0), .read(0)])
        #expect(check.zeroes == 7)
    }

    @Test func `the first error of several places ends the IO`() throws {
        let script = """
            local file = backing { file = "/b", size = "1M" }
            function write(io, offset) return to(offset, file) + to(offset) end
            """
        let result = try simulate(script, settings: ["size": "1M"]) {
            $0.workload = Workload([.write(0), .read(0)])
            $0.faults = FileFaults(failing: [.writeDurably: .noSpace, .write: .noSpace])
        }
        #expect(result.outcomes == ["ENOSPC", ""])
        #expect(result.report.data?.differing == 0)
    }

    @Test func `a flush goes to every file there is`() throws {
        let script = """
            local b, c = backing { file = "/b", size = "1M" }, backing { size = "1M" }
            device { file = "/a" }
            """
        let result = try simulate(script) { $0.workload = Workload([.flush, .flush]) }
        #expect(result.fileOperations[.sync] == 4)
    }

    @Test func `a flush syncs a file once, the device's own that is a declared one, too`() throws {
        let script = """
            local own = backing { file = "/a", size = "16M" }
            local other = backing { file = "/b", size = "1M" }
            device { backing = own }
            """
        let result = try simulate(script) { $0.workload = Workload([.flush]) }
        #expect(result.fileOperations[.sync] == 2)
    }

    @Test func `a declared backing can be the device's own`() throws {
        let script = """
            local own = backing { size = "2M" }
            device { backing = own }
            function write(io, offset) return to(offset + 2^20 // 1, own) end
            function read(io, offset) return to(offset + 2^20 // 1) end
            """
        let (check, result) = try run(
            script,
            [.write(0), .read(0), .write(4096), .read(4096)],
            settings: ["size": "1M"]
        )
        #expect(check.differing == 0 && result.report.errors.isEmpty)
    }

    @Test func `a torn write is torn over its places`() throws {
        let script = """
            local a, b = backing { size = "1M" }, backing { size = "1M" }
            local function split(io) return to(0, a, 0, 2048) + to(0, b, 2048) end
            local torn = store { keep = "prefix", units = 6 }
            local count = 0
            function write(io) count = count + 1; return count == 2 and split() + torn or split() end
            read = split
            """
        let (check, result) = try run(
            script,
            [.write(0), .read(0), .write(0), .read(0)],
            settings: ["size": "1M"]
        )
        #expect(check.differing == 2 && check.stale == 2, "the last two sectors are old")
        #expect(result.action("torn") == 1)
    }

    @Test func `a rule sends IOs elsewhere, and past the end it is an error and no crash`() throws {
        let script = """
            local b = backing { size = "64K" }
            rule { op = { "read", "write" }, range = { 0, "4K" }, verdict = to("60K", b) }
            rule { op = "read", range = { "8K", "4K" }, verdict = to("8K", b) + to("128K", b) }
            """
        let (check, result) = try run(script, [.write(0), .read(0), .read(0, 8192), .read(8192)])
        #expect(check.differing == 0)
        #expect(result.outcomes == ["", "", "EIO", "EIO"])
        #expect(result.action("backing_errors") == 2)
    }

    @Test func `backings that differ from run to run are refused`() throws {
        let script =
            "device { size = \"1M\" } if #ranges(\"r\") > 0 then backing { size = \"1M\" } end"
        let plan = try LoadedScript.plan(ScriptSource(path: "test.lua", text: script))
        let shared = SharedObjects(queues: 1)
        let other = try ScriptHarness("ranges(\"r\"):add(0, 1)", shared: shared)
        #expect {
            _ = try plan.load(
                queue: QueueID(0),
                shared: shared,
                counters: RuleCounters(count: 0),
                ledger: Ledger(queue: QueueID(0)),
                logFD: -1
            )
        } throws: { "\($0)".contains("declares its backings differently from run to run") }
        withExtendedLifetime(other) {}
    }

    @Test func `a file without a size can be a large device's own in the simulator`() throws {
        let script = "device { backing = backing { file = \"/b\" } }"
        let result = try simulate(script, settings: ["size": "4G"]) { $0.workload.requests = 500 }
        #expect(result.report.data?.differing == 0)
    }

    // MARK: On the way up and down

    private static let elsewhere = """
        local file = backing { file = "/b", size = "1M" }
        local function there(io, offset) return to(offset, file) end
        read, write = there, there
        """

    @Test func `data goes to its place before faults are armed, too`() throws {
        let result = try simulate(Self.elsewhere, settings: ["size": "1M"]) {
            $0.workload = Workload([.write(0), .read(0)])
            $0.isArmed = false
        }
        #expect(result.fileOperations[.read] == 1 && result.report.data?.differing == 0)
    }

    @Test func `data goes to its place while the device is taken away`() throws {
        let result = try simulate(Self.elsewhere, settings: ["size": "1M"]) {
            $0.workload.requests = 2000
            $0.workload.weights = [.read: 1, .write: 1]
            $0.interventions = [.init(at: Instant(nanoseconds: 2_000_000), message: .drain)]
        }
        #expect(result.report.data?.differing == 0 && result.report.errors.isEmpty)
    }

    @Test
    func `a handler that reads decides while the device is taken away, and waits for nothing else`()
        throws
    {
        let script = """
            local file = backing { file = "/b", size = "1M" }
            function read(io, offset, length) return delay("1h") + done(file:read(offset, length)) end
            function write(io, offset) return hang() + to(offset, file) end
            """
        let result = try simulate(script, settings: ["size": "1M"]) {
            $0.workload.requests = 500
            $0.workload.weights = [.read: 1, .write: 1]
            $0.interventions = [.init(at: Instant(nanoseconds: 20_000), message: .drain)]
        }
        #expect(result.finished.count == 500 && result.report.virtualSeconds < 1)
    }

    @Test func `a script that is no target is not asked then`() throws {
        let result = try simulate("function read() return fail(\"EIO\") end") {
            $0.workload = Workload([.read(0)])
            $0.isArmed = false
        }
        #expect(result.outcomes == [""])
    }

    // MARK: Refusals

    @Test(arguments: [
        ("backing {}", "backing needs a size"), ("backing { size = 3 }", "size = 3"),
        ("backing { name = 3 }", "backing has no key \"name\""),
        ("for i = 1, 16 do backing { size = \"1M\" } end", "15 already"),
        ("device { backing = backing { size = \"1M\" } }", "the device needs 2M"),
        ("device { backing = backing() }", "the device's own itself"),
        ("device { backing = ranges() }", "backing = ranges"),
        ("device { backing = backing { size = \"1M\" }, file = \"x\" }", "file is of no use"),
    ])
    func `a backing that cannot be is refused by file and line`(text: String, part: String) {
        let message: String
        do {
            _ = try simulate("\n" + text, settings: ["size": "2M"])
            message = "accepted"
        } catch { message = "\(error)" }
        #expect(message.hasPrefix("test.lua:2: ") && message.contains(part), "\(message)")
    }

    @Test(arguments: [
        ("to(0, 5)", "5 is no backing"), ("to(0, nil, 0, 0)", "length is 0"),
        ("to(0) + misdirect(512)", "cannot be added"),
        ("to(0)+to(0)+to(0)+to(0)+to(0)+to(0)+to(0)+to(0)+to(0)", "8 places at most"),
        ("to(0) + fail(\"EIO\")", "cannot both redirect and fail"),
    ])
    func `what is no place is refused`(text: String, part: String) {
        let error = loadError("\nlocal v = \(text)")
        #expect(error?.text.hasPrefix("test.lua:2: ") == true, "\(error?.text ?? "accepted")")
        #expect(error?.text.contains(part) == true, "\(error?.text ?? "accepted")")
    }

    @Test(arguments: [
        ("to(\"1M\", b)", "past the end of backing 1 (1048576 bytes)"),
        ("to(0, b, 4096)", "bytes 4096 to"), ("to(0, b, 0, 8192)", "bytes 0 to 8192"),
    ])
    func `a place that is not there is a script error`(text: String, part: String) throws {
        let script = "local b = backing { size = \"1M\" }\nfunction read() return \(text) end"
        let result = try simulate(script, settings: ["size": "2M"]) {
            $0.workload = Workload([.read(0)])
        }
        #expect(result.outcomes == ["EIO"])
        let error = result.report.scriptErrors.texts.first ?? ""
        #expect(error.contains("test.lua:2: ") && error.contains(part), "\(error)")
    }
}
