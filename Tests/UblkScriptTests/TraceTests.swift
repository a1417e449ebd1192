import CLua
import SystemPackage
import Testing

@testable import UblkScript

/// The steps of requests as a trace tells them: all, in order, with the rule that decided, and for nothing when nobody
/// looks.
@Suite struct TraceTests {
    private func steps(
        _ script: String,
        settings: [String: String] = [:],
        _ change: (inout Simulation) -> Void
    ) throws -> [TraceStep] {
        let result = try simulate(script, settings: settings) {
            $0.keepsTrace = true
            change(&$0)
        }
        return try Self.steps(result, script)
    }

    private static func steps(_ result: Simulation.Result, _ script: String) throws -> [TraceStep] {
        let source = ScriptSource(path: "test.lua", text: script)
        let plan = try LoadedScript.plan(source, overrides: [.test("size", "16M")])
        let text = LedgerText(script: "test.lua", rules: plan.rules, seed: 1)
        var reader = TraceReader()
        return reader.read(
            result.queues.compactMap(\.trace),
            result.queues.map(\.ledger),
            text,
            limit: .max
        ).steps
    }

    private func lines(_ steps: [TraceStep], explains: Bool = false) -> [String] {
        var text = TraceText(explains: explains)
        return steps.flatMap { text.lines($0) }
    }

    private static func at(_ nanoseconds: UInt64, _ request: SimulatedRequest) -> SimulatedRequest {
        var request = request
        request.start = .at(Instant(nanoseconds: nanoseconds))
        return request
    }

    // MARK: Steps

    @Test
    func
        `an IO on memory goes from FETCH_REQ to COMMIT_AND_FETCH_REQ, and the tags are taken back`()
        throws
    {
        let found = try steps("") {
            $0.workload = Workload([Self.at(1_000_000, .write(8_388_608))])
        }
        #expect(
            lines(found) == [
                "0.000000000  q0                    FETCH_REQ            128 tags",
                "0.001000000  q0 tag 0       +0 ns  request              io 1: write, sector 16384, 4096 bytes",
                "0.001000000  q0 tag 0       +0 ns  decision             io 1: pass",
                "0.001000000  q0 tag 0       +0 ns  store_begin          io 1: write 8388608+4096 of store 0",
                "0.001000000  q0 tag 0       +0 ns  store_end            io 1: 4096 bytes",
                "0.001000000  q0 tag 0       +0 ns  COMMIT_AND_FETCH_REQ io 1: result 4096",
                "0.001000000  q0                    ABORT                128 tags",
            ]
        )
    }

    @Test func `a delayed IO that fails shows its rule, its wait and its errno`() throws {
        let script = #"rule { name = "bad", op = "read", delay = "5ms", error = "ENODATA" }"#
        let found = try steps(script) { $0.workload = Workload([Self.at(1_000_000, .read(0))]) }
        #expect(
            lines(found).dropFirst().dropLast() == [
                "0.001000000  q0 tag 0       +0 ns  request              io 1: read, sector 0, 4096 bytes",
                #"0.001000000  q0 tag 0       +0 ns  decision             io 1: test.lua:1 bad: fail("ENODATA") + delay 5 ms"#,
                "0.001000000  q0 tag 0       +0 ns  delayed              io 1: for 5 ms",
                "0.006000000  q0 tag 0       +5 ms  continues            io 1",
                "0.006000000  q0 tag 0       +5 ms  COMMIT_AND_FETCH_REQ io 1: result -61, ENODATA",
            ]
        )
    }

    @Test func `what is held is found by a trace that begins later, and its release is told`()
        throws
    {
        let script = #"rule { op = "read", hang = "1h" }"#
        let ring = TraceRing(queue: QueueID(0), capacity: 1024)
        let result = try simulate(script) {
            $0.workload = Workload([Self.at(1000, .read(4096))])
            let release = QueueRequest.release(Release(errno: 5))
            $0.interventions = [
                .init(at: Instant(nanoseconds: 2_000_000), message: .trace(ring)),
                .init(at: Instant(nanoseconds: 3_000_000), message: .ask(release, Promise())),
            ]
        }
        var reader = TraceReader()
        let text = LedgerText(script: "test.lua", rules: [], seed: 1)
        let found = reader.read([ring], [result.ledger], text, limit: .max).steps
        #expect(found.map(\.step) == [.fetch, .found, .continues, .released, .commit, .abort])
        try #require(found.count == 6)
        #expect(found[1].what == "held" && found[1].sector == 8)
        #expect(found[3].who == "ctl" && found[3].what == #"released, fail("EIO")"#)
        #expect(found[4].errno == "EIO" && found[4].sinceArrival == 2_999_000)
    }

    @Test func `a file's transfer ends later than it begins, and an error of it is told`() throws {
        let found = try steps("", settings: ["file": "disk.img"]) {
            $0.workload = Workload([Self.at(1_000_000, .read(4096))])
            $0.faults.failing = [.read: .ioError]
        }
        let kinds = found.map(\.step)
        #expect(
            kinds == [
                .fetch, .request, .decision, .storeBegin, .storeEnd, .backingError, .commit, .abort,
            ]
        )
        #expect(found[4].t > found[3].t && found[4].result ?? 0 < 0)
        #expect(found[6].result == found[4].result)
    }

    @Test func `a handler that asks a store waits for it, and its steps say so`() throws {
        let script = """
            local own = backing()
            function write(io, offset, length)
              own:read(0, 512)
              return fail("ENOSPC")
            end
            """
        let found = try steps(script) { $0.workload = Workload([Self.at(1_000_000, .write(0))]) }
        #expect(found.contains { $0.step == .storeBegin && $0.what == "for the handler" })
        let decision = found.first { $0.step == .decision }
        #expect(decision?.who == "test.lua write()" && decision?.what == #"fail("ENOSPC")"#)
    }

    @Test func `flags of the io descriptor are named`() throws {
        var durable = SimulatedRequest.write(512, 512)
        durable.flags = .fua
        let found = try steps("", settings: ["cache": "volatile", "fua": "true"]) {
            $0.workload = Workload([durable, SimulatedRequest(op: .flush)])
        }
        let requests = lines(found.filter { $0.step == .request })
        #expect(requests.contains { $0.hasSuffix("write, sector 1, 512 bytes, fua") })
        #expect(requests.contains { $0.hasSuffix(": flush") })
    }

    @Test func `each request of several queues has its steps, in the order of time`() throws {
        let script =
            #"rule { op = "read", every = 3, delay = "1ms" } rule { op = "write", every = 5, error = "EIO" }"#
        let found = try steps(script, settings: ["queues": "2"]) { $0.workload.requests = 400 }
        #expect(found.indices.dropFirst().allSatisfy { found[$0 - 1].t <= found[$0].t })
        let arrived = found.filter { $0.step == .request }
        #expect(arrived.count == 400)
        for request in arrived {
            let own = found.filter { $0.queue == request.queue && $0.io == request.io }
            #expect(own.first == request && own.last?.step == .commit)
            #expect(own.filter { $0.step == .decision }.count >= 1)
            #expect(own.allSatisfy { $0.tag == request.tag })
        }
    }

    @Test func `a run that is traced is the run that is not`() throws {
        let script = """
            rule { op = "read", p = 0.1, delay = "1ms" }
            rule { op = "write", p = 0.05, verdict = store { keep = "prefix", units = 3 } }
            rule { op = "write", p = 0.05, error = "EIO" }
            rule { op = "read", p = 0.05, verdict = corrupt("flip") }
            """
        let plain = try simulate(script) { $0.readsBack = true }
        let traced = try simulate(script) { ($0.readsBack, $0.keepsTrace) = (true, true) }
        #expect(traced.report == plain.report)
        let format = LedgerText(script: "test.lua", rules: [], seed: 1, isJSON: true)
        func records(_ result: Simulation.Result) -> [String] {
            result.ledger.read(from: 0, limit: .max).records.map {
                format.line($0, queue: QueueID(0))
            }
        }
        #expect(records(traced) == records(plain))
        // Reading back is not what the application did.
        let found = try Self.steps(traced, script)
        #expect(found.filter { $0.step == .request }.count == 5000)
        #expect(found.last?.step == .abort)
    }

    // MARK: Reading

    @Test
    func `what was overwritten is counted, and what the ledger had of it is not told of others`() {
        let ring = TraceRing(queue: QueueID(0), capacity: 8)
        let ledger = Ledger(queue: QueueID(0), capacity: 64)
        var io = us_io()
        for number in 0..<20 {
            io.sequence = UInt64(number)
            ledger.append(LedgerRecord(.released, io, time: 0))
            let now = UInt64(number)
            ring.writer.append(
                TraceEvent(.arrived, io, arrivedAt: now, time: now, ledger: ledger.total)
            )
        }
        var reader = TraceReader()
        let text = LedgerText(script: "a.lua", rules: [], seed: 1)
        let found = reader.read([ring], [ledger], text, limit: .max).steps
        #expect(found.first?.step == .lost && found.first?.count == 12)
        #expect(found.filter { $0.step == .request }.map(\.io) == Array(12..<20))
        #expect(found.filter { $0.step == .released }.map(\.io) == Array(13..<20))
        let again = reader.read([ring], [ledger], text, limit: .max)
        #expect(again.steps.isEmpty && !again.hasMore)
    }

    @Test
    func `each event has its own records of a ledger that keeps few, and the others are told`() {
        let ring = TraceRing(queue: QueueID(0), capacity: 64)
        let ledger = Ledger(queue: QueueID(0), capacity: 8)
        var io = us_io()
        for number in 0..<UInt64(20) {
            io.sequence = number
            ledger.append(LedgerRecord(.released, io, time: 0))
            ring.writer.append(
                TraceEvent(.arrived, io, arrivedAt: number, time: number, ledger: ledger.total)
            )
        }
        var reader = TraceReader()
        let text = LedgerText(script: "a.lua", rules: [], seed: 1)
        let found = reader.read([ring], [ledger], text, limit: .max).steps
        #expect(found.filter { $0.step == .request }.map(\.io) == Array(0..<20))
        let released = found.indices.filter { found[$0].step == .released }
        #expect(released.map { found[$0].io } == Array(12..<20))
        #expect(released.allSatisfy { found[$0].io == found[$0 + 1].io })
        let lost = found.filter { $0.step == .lost }
        #expect(lost.map(\.count) == [12] && lost.first?.what == "records of the ledger")
        #expect(
            lines(lost).first?.hasSuffix(
                "12 records of the ledger, overwritten before they were read"
            ) == true
        )
    }

    @Test func `what a queue has lost is told of it, before what it has kept`() {
        let rings = (0..<2).map { TraceRing(queue: QueueID(UInt16($0)), capacity: 8) }
        let ledgers = (0..<2).map { Ledger(queue: QueueID(UInt16($0)), capacity: 8) }
        var io = us_io()
        for number in 0..<UInt64(20) {
            io.sequence = number
            let event = TraceEvent(.arrived, io, arrivedAt: 0, time: number, ledger: 0)
            rings[1].writer.append(event)
            if number < 3 { rings[0].writer.append(event) }
        }
        var reader = TraceReader()
        let text = LedgerText(script: "a.lua", rules: [], seed: 1)
        let found = reader.read(rings, ledgers, text, limit: .max).steps
        #expect(found.filter { $0.queue == 0 }.map(\.io) == [0, 1, 2])
        let late = found.filter { $0.queue == 1 }
        #expect(late.first?.step == .lost && late.first?.count == 12 && late.first?.t == 12)
        #expect(late.dropFirst().map(\.io) == Array(12..<20))
    }

    @Test func `a cursor survives its way over the socket, and nonsense is refused`() throws {
        let cursor = TraceCursor(
            trace: 3,
            origin: 1 << 60,
            events: [1, 2],
            records: [0, 7],
            commands: 9
        )
        #expect(try TraceRequest(words: cursor.words).cursor == cursor)
        #expect(try TraceRequest(words: []).cursor == nil)
        for words in [
            ["1"], ["a", "0", "1", "1", "0"], ["1", "0", "1,2", "1", "0"],
            ["1", "0", "x", "1", "0"], ["1", "0", "1", "1"], ["1", "0", "1", "1", "-1"],
        ] {
            #expect(throws: AdminRefusal.self) { try TraceRequest(words: words) }
        }
    }

    // MARK: Teaching

    @Test func `each kind of step is explained once, by the names of the protocol`() throws {
        let script = #"rule { op = "read", every = 2, delay = "1ms" }"#
        let found = try steps(script) { $0.workload.requests = 50 }
        let text = lines(found, explains: true)
        let said = text.filter { $0.hasPrefix("    | ") }.map { $0.dropFirst(6) }.joined(
            separator: " "
        )
        for word in ["FETCH_REQ", "COMMIT_AND_FETCH_REQ", "io descriptor", "ABORT", "-ENODEV"] {
            #expect(said.contains(word), "\(word)")
        }
        #expect(
            text.filter { $0.hasPrefix("    | COMMIT_AND_FETCH_REQ is one command") }.count == 1
        )
        for kind in TraceStep.Kind.allCases { #expect(kind.explanation.hasSuffix("."), "\(kind)") }
        #expect(text.allSatisfy { !$0.hasPrefix("    |") || $0.count <= 80 })
    }
}
