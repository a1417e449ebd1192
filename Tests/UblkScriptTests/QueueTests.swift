import CLua
import Testing

@testable import UblkScript

/// What the production queue does to requests, seen by the application on the other side of the simulated driver.
@Suite struct QueueTests {
    static let badBlock = """
        local bad = ranges("bad"):add(8192, 4096)
        rule { op = "read", range = bad, error = "ENODATA" }
        rule { op = "write", range = bad, heal = true }
        """

    static func at(_ milliseconds: UInt64, _ message: QueueMessage)
        -> SimulatedTransport.Intervention
    {
        .init(at: Instant(nanoseconds: milliseconds * 1_000_000), message: message)
    }

    // MARK: Errors

    @Test func `an error hits its range and nothing beside it`() throws {
        let result = try simulate(Self.badBlock) {
            $0.workload = Workload([
                .read(4096), .read(8192), .read(12288), .read(7680, 512), .read(7680, 1024),
                .read(11776, 512), .read(11776, 1024), .read(12288, 512), .read(0, 16384),
            ])
        }
        let bad = "ENODATA"
        #expect(result.outcomes == ["", bad, "", "", bad, bad, bad, "", bad])
        #expect(result.report.errors == [.init(name: "ENODATA", count: 5)])
        #expect(result.report.rules.map(\.acted) == [5, 0])
    }

    @Test func `an error of one op leaves the others alone`() throws {
        let result = try simulate(
            "rule { op = { \"write\", \"flush\" }, error = \"ENOSPC\" }",
            settings: ["cache": "volatile"]
        ) {
            $0.workload = Workload([.read(0), .write(0), .flush, .discard(0), .writeZeroes(0)])
        }
        #expect(result.outcomes == ["", "ENOSPC", "ENOSPC", "", ""])
    }

    @Test func `every errno that scripts may name reaches the application`() throws {
        for name in Quantity.blockErrnoNames {
            let result = try simulate("rule { error = \"\(name)\" }") {
                $0.workload = Workload([.read(0)])
            }
            #expect(result.outcomes == [name])
        }
    }

    @Test func `nothing happens while faults are not armed`() throws {
        let result = try simulate(Self.badBlock + "\nfunction read() return fail(\"EIO\") end") {
            $0.isArmed = false
            $0.workload = Workload([.read(8192), .read(0)])
        }
        #expect(result.outcomes == ["", ""])
    }

    // MARK: Healing

    @Test func `a write heals what it covers and no more`() throws {
        let result = try simulate(Self.badBlock) {
            $0.workload = Workload([
                .read(8192), .write(8192, 512), .read(8192, 512), .read(8704, 512),
                .write(8704, 3584), .read(8192),
            ])
        }
        #expect(result.outcomes == ["ENODATA", "", "", "ENODATA", "", ""])
    }

    @Test func `a write that fails or is dropped heals nothing`() throws {
        for action in ["error = \"EIO\"", "drop = true"] {
            let result = try simulate(
                Self.badBlock + "\nrule { op = \"write\", nth = 1, \(action) }"
            ) {
                $0.workload = Workload([.write(8192), .read(8192), .write(8192), .read(8192)])
            }
            #expect(result.outcomes.dropFirst() == ["ENODATA", "", ""], "\(action)")
        }
    }

    // MARK: Delays

    @Test func `a delay is exact and 64 of them overlap`() throws {
        let result = try simulate("rule { op = \"read\", delay = \"50ms\" }") {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 64
            $0.workload.depth = 64
        }
        #expect(result.finished.count == 64)
        #expect(result.finished.allSatisfy { $0.nanoseconds == 50_000_000 })
        #expect(result.report.virtualSeconds < 0.0501)
        #expect(result.action("delayed") == 64)
    }

    @Test func `delays of rules and of the handler add up, and an error waits for them`() throws {
        let result = try simulate(
            """
            rule { op = "read", delay = "1ms" }
            rule { op = "read", delay = "20ms" }
            function read() return delay("300ms") + fail("EIO") end
            """
        ) { $0.workload = Workload([.read(0)]) }
        #expect(result.finished.map(\.nanoseconds) == [321_000_000])
        #expect(result.outcomes == ["EIO"])
    }

    @Test func `a delayed request does not hold up another one`() throws {
        let result = try simulate("rule { range = { 0, 4096 }, delay = \"1s\" }") {
            $0.workload = Workload([.write(0), .read(4096), .read(8192)], depth: 2)
        }
        #expect(result.finished.map(\.request.offsetBytes) == [4096, 8192, 0])
        #expect(result.finished.map { $0.nanoseconds >= 1_000_000_000 } == [false, false, true])
    }

    // MARK: Hangs

    @Test func `a hang with a limit ends by itself`() throws {
        let result = try simulate("rule { op = \"read\", hang = \"30s\" }") {
            $0.workload = Workload([.read(0)])
        }
        #expect(result.finished.map(\.nanoseconds) == [30_000_000_000])
        #expect(result.outcomes == [""])
        #expect(result.report.end == .finished)
    }

    @Test func `a release lets held requests go on, others stay as they are`() throws {
        let released = Promise<QueueAnswer>()
        let result = try simulate(
            "rule { op = \"read\", hang = true }\nrule { op = \"write\", delay = \"1s\" }"
        ) {
            $0.workload = Workload([.read(0), .read(4096), .write(8192)], depth: 3)
            $0.interventions = [Self.at(100, .release(Release(), released))]
        }
        #expect(released.wait(seconds: 0) == .success(.released(2)))
        #expect(result.outcomes == ["", "", ""])
        let times = result.finished.map(\.endedAt.nanoseconds)
        #expect(times[0] == 100_000_000 && times[1] == 100_000_000 && times[2] > 1_000_000_000)
        #expect(result.action("hung") == 2)
        #expect(result.report.heldForEver == 0)
    }

    @Test func `a release can say what the held requests get`() throws {
        let result = try simulate("rule { op = \"read\", hang = true }") {
            $0.workload = Workload([.read(0)])
            $0.interventions = [Self.at(5, .release(Release(errno: 110), Promise<QueueAnswer>()))]
        }
        #expect(result.outcomes == ["ETIMEDOUT"])
    }

    /// The offsets of eight held reads in the order in which `releases` let them go, 4096 as the unit.
    private func order(_ releases: [Release], seed: UInt64 = 1) throws -> [UInt64] {
        let result = try simulate("rule { op = \"read\", hang = \"1s\" }", seed: seed) {
            $0.workload = Workload((0..<8).map { .read($0 * 4096) }, depth: 8)
            $0.interventions = releases.enumerated().map {
                Self.at(UInt64(5 + $0), .release($1, Promise()))
            }
        }
        return result.finished.map { $0.request.offsetBytes / 4096 }
    }

    @Test func `held requests are let go in the order of their arrival, or against it`() throws {
        let arrived = try order([])
        #expect(try order([Release()]) == arrived)
        #expect(try order([Release(order: US_RELEASE_LIFO)]) == arrived.reversed())
    }

    @Test func `a random order is another one, and the same for the same seed`() throws {
        let shuffled = try order([Release(order: US_RELEASE_RANDOM)])
        #expect(try shuffled != order([]) && shuffled.sorted() == Array(0..<8))
        #expect(try order([Release(order: US_RELEASE_RANDOM)]) == shuffled)
    }

    @Test(arguments: [1, 3, 8, 9])
    func `a release may be of so many`(count: Int) throws {
        let arrived = try order([])
        let lifo = try order([Release(order: US_RELEASE_LIFO, count: count)])
        // The others end when their second is over.
        #expect(lifo == arrived.suffix(count).reversed() + arrived.dropLast(count))
    }

    @Test func `a release may be of a list, in its order`() throws {
        let arrived = try order([])
        // Tags are given in the order of arrival.
        let list = try Release(words: ["0:5", "0:2", "1:3", "0:100"])
        #expect(list.places.count == 4)
        #expect(try order([list]) == [5, 2] + arrived.filter { $0 != 5 && $0 != 2 })
    }

    @Test func `what a script lets go of in one turn adds up`() throws {
        let script = """
            function write() release("fifo", 1) end
            rule { op = "read", hang = "1s" }
            """
        let result = try simulate(script) {
            $0.workload = Workload(
                (0..<4).map { .read($0 * 4096) } + (0..<3).map { .write($0 * 4096) },
                depth: 7
            )
        }
        #expect(
            result.finished.count { $0.request.op == .read && $0.nanoseconds > 999_000_000 } <= 1
        )
    }

    @Test(arguments: ["0:", ":1", "0:1:2", "0:x", "-1:0", "0:70000"])
    func `what is no place is refused`(word: String) {
        let refusal = #expect(throws: AdminRefusal.self) { try Release(words: [word]) }
        #expect(refusal?.text.contains("no QUEUE:TAG") == true)
    }

    @Test func `what is held is listed in the order of its arrival`() throws {
        let lines = Promise<QueueAnswer>()
        _ = try simulate("rule { op = \"read\", hang = \"1s\" }") {
            $0.workload = Workload([.read(8192), .write(0), .read(4096, 512)], depth: 3)
            $0.interventions = [Self.at(5, .held(lines))]
        }
        let words = (lines.wait(seconds: 0)?.held ?? []).map { $0.text.split(separator: " ") }
        #expect(words.map { $0[2] } == words.map { $0[2] }.sorted() && words.count == 2)
        #expect(words.map { $0[0] + " " + $0[4] }.sorted() == ["0:0 8192+4096", "0:2 4096+512"])
    }

    @Test func `a script lets go of what it holds once there are four`() throws {
        let script = """
            local held = 0
            function read(io)
              held = held + 1
              if held % 4 == 0 then release("lifo", nil, held == 8 and "EIO" or nil) end
              return hang()
            end
            """
        let result = try simulate(script) {
            $0.workload = Workload((0..<8).map { .read($0 * 4096) }, depth: 4)
        }
        let sent = result.finished.map(\.sentAt.nanoseconds)
        #expect(result.outcomes == ["", "", "", "", "EIO", "EIO", "EIO", "EIO"])
        #expect(sent[..<4].elementsEqual(sent[..<4].sorted(by: >)))
        #expect(sent[4...].elementsEqual(sent[4...].sorted(by: >)))
        #expect(result.report.end == .finished)
    }

    @Test func `a timer lets go of what is held`() throws {
        let result = try simulate(
            "rule { op = \"read\", hang = true } every(\"10ms\", function() release() end)"
        ) { $0.workload = Workload([.read(0), .read(4096)]) }
        #expect(result.report.end == .finished && result.report.virtualSeconds < 0.021)
    }

    @Test(arguments: [
        ("release(\"up\")", "bad order \"up\""), ("release(1)", "bad order 1"),
        ("release(nil, 0)", "bad count 0"), ("release(nil, \"x\")", "number expected"),
        ("release(nil, nil, \"EBOGUS\")", "bad errno \"EBOGUS\""),
    ])
    func `a release that makes no sense is refused`(call: String, text: String) throws {
        let result = try simulate("function read() \(call) end") {
            $0.workload = Workload([.read(0)])
        }
        #expect(result.report.scriptErrors.texts.first?.contains(text) == true)
    }

    @Test func `a released hang ends as the script meant`() throws {
        let result = try simulate("function read() return hang(nil, fail(\"ENODATA\")) end") {
            $0.workload = Workload([.read(0)])
            $0.interventions = [Self.at(5, .release(Release(), Promise<QueueAnswer>()))]
        }
        #expect(result.outcomes == ["ENODATA"])
    }

    @Test func `a drain ends hangs with EIO and delays at once, and nothing is decided after it`()
        throws
    {
        let result = try simulate(
            """
            rule { op = "read", range = { 0, 4096 }, hang = true }
            rule { op = "read", delay = "1h" }
            rule { op = "write", error = "ENOSPC" }
            """
        ) {
            $0.workload = Workload([.read(0), .read(4096), .write(0), .read(0)], depth: 2)
            $0.interventions = [Self.at(100, .drain)]
        }
        #expect(result.outcomes == ["EIO", "", "", ""])
        #expect(result.report.virtualSeconds < 0.2)
    }

    @Test func `a delay before a hang is drained as the hang`() throws {
        let result = try simulate("function read() return delay(\"1h\") + hang() end") {
            $0.workload = Workload([.read(0)])
            $0.interventions = [Self.at(100, .drain)]
        }
        #expect(result.outcomes == ["EIO"])
    }

    @Test func `what is held for ever ends when the device is stopped`() throws {
        let result = try simulate("rule { op = \"write\", hang = true }") {
            $0.workload.weights = [.write: 1]
            $0.workload.depth = 8
        }
        #expect(result.report.end == .held)
        #expect(result.report.heldForEver == 8)
        #expect(result.outcomes == Array(repeating: "EIO", count: 8))
    }

    // MARK: Script errors

    static let raising = "function read(io, offset) if offset == 4096 then error(\"oh\") end end"

    @Test(arguments: [("fail", ["", "EIO", ""]), ("pass", ["", "", ""])])
    func `a script error fails or passes its request`(policy: String, outcomes: [String]) throws {
        let result = try simulate(Self.raising, settings: ["on_error": policy]) {
            $0.workload = Workload([.read(0), .read(4096), .read(8192)])
        }
        #expect(result.outcomes == outcomes)
        #expect(result.report.scriptErrors.count == 1)
        #expect(result.report.scriptErrors.texts.first?.contains("test.lua:1: oh") == true)
        #expect(result.action("script_errors") == 1)
    }

    @Test func `a handler that never ends is interrupted and its request fails`() throws {
        let result = try simulate(
            "function read(io, offset) while offset == 4096 do end end",
            settings: ["budget": "20ms"]
        ) { $0.workload = Workload([.read(0), .read(4096), .read(8192)]) }
        #expect(result.outcomes == ["", "EIO", ""])
        #expect(result.report.scriptErrors.texts.first?.contains("budget") == true)
    }

    @Test func `a script error can stop the device`() throws {
        let result = try simulate(Self.raising, settings: ["on_error": "stop"]) {
            $0.workload = Workload(Array(repeating: .read(4096), count: 100))
        }
        #expect(result.report.end == .stopped)
        #expect(result.outcomes == ["EIO"])
        #expect(result.report.requestCount < 100)
    }

    // MARK: Control

    @Test func `ctl changes what the rules do while requests go on`() throws {
        let answer = Promise<QueueAnswer>()
        let script = """
            local bad = ranges("bad")
            rule { op = "read", range = bad, error = "ENODATA" }
            rule { op = "flush", delay = "50ms" }
            function ctl(cmd, offset, length) bad:add(offset, length) return cmd, bad:count() end
            """
        let result = try simulate(script, settings: ["cache": "volatile"]) {
            $0.workload = Workload([.read(4096), .flush, .read(4096), .read(8192)])
            $0.interventions = [Self.at(20, .control(["addbad", "4K", "4K"], answer))]
        }
        #expect(answer.wait(seconds: 0) == .success(.script("addbad\t1")))
        #expect(result.outcomes == ["", "", "ENODATA", ""])
    }
}
