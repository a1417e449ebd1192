import Glibc
import Testing

@testable import UblkScript

/// A trace as Perfetto reads it, decoded again by a reader that knows nothing of the writer.
@Suite struct PerfettoTests {
    /// A field of a message on the wire.
    private enum Value {
        case number(UInt64)
        case bytes(ArraySlice<UInt8>)
    }

    private struct Broken: Error {}

    /// The fields of a message, in their order.
    private static func fields(_ bytes: ArraySlice<UInt8>) throws -> [(number: Int, value: Value)] {
        var rest = bytes
        func varint() throws -> UInt64 {
            var value: UInt64 = 0
            for shift in stride(from: UInt64(0), to: 64, by: 7) {
                guard let byte = rest.popFirst() else { throw Broken() }
                value |= UInt64(byte & 0x7f) << shift
                if byte < 0x80 { return value }
            }
            throw Broken()
        }
        var found: [(number: Int, value: Value)] = []
        while !rest.isEmpty {
            let key = try varint()
            switch key & 7 {
            case 0: found.append((Int(key >> 3), .number(try varint())))
            case 1:
                guard rest.count >= 8 else { throw Broken() }
                let value = rest.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                rest = rest.dropFirst(8)
                found.append((Int(key >> 3), .number(value)))
            case 2:
                let length = Int(try varint())
                guard rest.count >= length else { throw Broken() }
                found.append((Int(key >> 3), .bytes(rest.prefix(length))))
                rest = rest.dropFirst(length)
            default: throw Broken()
            }
        }
        return found
    }

    /// A packet with an event.
    private struct Event {
        var time: UInt64 = 0
        var type: UInt64 = 0
        var track: UInt64 = 0
        var name: String?
        var value: UInt64?
        var flows: Set<UInt64> = []
        var ends: Set<UInt64> = []
        var notes: [String: String] = [:]
    }

    private struct Track {
        let name: String
        let parent: UInt64?
        let isCounter: Bool
    }

    private struct Trace {
        var tracks: [UInt64: Track] = [:]
        var events: [Event] = []

        init(_ bytes: [UInt8]) throws {
            for (number, packet) in try fields(bytes[...]) {
                guard number == 1, case .bytes(let packet) = packet else { throw Broken() }
                try add(fields(packet))
            }
        }

        private mutating func add(_ packet: [(number: Int, value: Value)]) throws {
            var event = Event()
            var isEvent = false
            for (number, value) in packet {
                switch (number, value) {
                case (8, .number(let time)): event.time = time
                case (10, .number(let sequence)): #expect(sequence == 1)
                case (11, .bytes(let content)):
                    isEvent = true
                    for field in try fields(content) { try take(field, &event) }
                case (60, .bytes(let content)): try describe(fields(content))
                default: throw Broken()
                }
            }
            guard isEvent else { return }
            #expect(tracks[event.track] != nil, "an event on a track that nobody has described")
            events.append(event)
        }

        private func take(_ field: (number: Int, value: Value), _ event: inout Event) throws {
            switch field {
            case (9, .number(let type)): event.type = type
            case (11, .number(let track)): event.track = track
            case (22, .bytes(let text)): #expect(String(decoding: text, as: UTF8.self) == "ublk")
            case (23, .bytes(let text)): event.name = String(decoding: text, as: UTF8.self)
            case (30, .number(let value)): event.value = value
            case (47, .number(let flow)): event.flows.insert(flow)
            case (48, .number(let flow)): event.ends.insert(flow)
            case (4, .bytes(let content)):
                var name = ""
                var text = ""
                for part in try fields(content) {
                    switch part {
                    case (10, .bytes(let bytes)): name = String(decoding: bytes, as: UTF8.self)
                    case (6, .bytes(let bytes)): text = String(decoding: bytes, as: UTF8.self)
                    case (4, .number(let number)): text = "\(Int64(bitPattern: number))"
                    default: throw Broken()
                    }
                }
                event.notes[name] = text
            default: throw Broken()
            }
        }

        private mutating func describe(_ content: [(number: Int, value: Value)]) throws {
            var (uuid, name): (UInt64, String) = (0, "")
            var parent: UInt64?
            var isCounter = false
            for field in content {
                switch field {
                case (1, .number(let number)): uuid = number
                case (2, .bytes(let bytes)): name = String(decoding: bytes, as: UTF8.self)
                case (5, .number(let number)): parent = number
                case (8, .bytes): isCounter = true
                default: throw Broken()
                }
            }
            #expect(tracks[uuid] == nil && uuid != 0, "\(name) is described twice")
            if let parent { #expect(tracks[parent] != nil) }
            tracks[uuid] = Track(name: name, parent: parent, isCounter: isCounter)
        }
    }

    /// A slice, made of the events of its track.
    private struct Slice {
        let track: UInt64
        let begin: Event
        var end: Event?
        /// How many slices it is in.
        let depth: Int
    }

    private static func slices(_ trace: Trace) -> [Slice] {
        var slices: [Slice] = []
        var open: [UInt64: [Int]] = [:]
        for event in trace.events {
            if event.type == 1 {
                let depth = open[event.track]?.count ?? 0
                open[event.track, default: []].append(slices.count)
                slices.append(Slice(track: event.track, begin: event, depth: depth))
            } else if event.type == 2 {
                guard let last = open[event.track]?.popLast() else {
                    Issue.record("a slice ends that has not begun")
                    continue
                }
                slices[last].end = event
            }
        }
        return slices
    }

    private func trace(_ script: String, _ change: (inout Simulation) -> Void) throws -> Trace {
        let result = try simulate(script) {
            $0.keepsTrace = true
            change(&$0)
        }
        let plan = try LoadedScript.plan(
            ScriptSource(path: "test.lua", text: script),
            overrides: [.test("size", "16M")]
        )
        var reader = TraceReader()
        let steps = reader.read(
            result.queues.compactMap(\.trace),
            result.queues.map(\.ledger),
            LedgerText(script: "test.lua", rules: plan.rules, seed: 1),
            limit: .max
        ).steps
        var perfetto = PerfettoTrace()
        return try Trace(steps.flatMap { perfetto.bytes($0) })
    }

    @Test func `an IO is a slice on its tag's track, with its waits and transfers in it`() throws {
        let script = #"rule { name = "slow", op = "read", delay = "5ms" }"#
        var late = SimulatedRequest.read(8_388_608)
        late.start = .at(Instant(nanoseconds: 1_000_000))
        let trace = try trace(script) { $0.workload = Workload([late]) }
        let slices = Self.slices(trace)
        #expect(
            slices.map { $0.begin.name } == ["read 4096 at sector 16384", "delayed", "store 0"]
        )
        #expect(slices.map(\.depth) == [0, 1, 1])
        #expect(slices.map(\.begin.time) == [1_000_000, 1_000_000, 6_000_000])
        #expect(slices.map { $0.end?.time } == [6_000_000, 6_000_000, 6_000_000])
        #expect(slices[0].begin.notes["sector"] == "16384" && slices[0].begin.notes["io"] == "1")
        #expect(slices[0].end?.notes["result"] == "4096")
        let track = try #require(trace.tracks[slices[0].track])
        #expect(track.name == "tag 0")
        #expect(track.parent.flatMap { trace.tracks[$0] }?.name == "queue 0")
        let decision = trace.events.first { $0.type == 3 && $0.track == slices[0].track }
        #expect(decision?.name == "test.lua:1 slow: delay 5 ms")
    }

    @Test func `a flow leads from the fetch of a tag through the request to its commit`() throws {
        let trace = try trace("") { $0.workload.requests = 300 }
        let requests = Self.slices(trace).filter { $0.depth == 0 }
        #expect(requests.count == 300)
        var seen: Set<UInt64> = []
        for request in requests {
            let flow = try #require(request.begin.flows.first)
            #expect(seen.insert(flow).inserted, "a flow is used twice")
            let source = trace.events.first { $0.flows.contains(flow) }
            let end = trace.events.first { $0.ends.contains(flow) }
            #expect(["FETCH_REQ", "COMMIT_AND_FETCH_REQ"].contains(source?.name ?? ""))
            #expect(end?.name == "COMMIT_AND_FETCH_REQ" && end?.time == request.end?.time)
            #expect(source?.time ?? .max <= request.begin.time)
        }
    }

    @Test func `slices of many requests nest, and the counters agree with them`() throws {
        let script = """
            rule { op = "read", every = 3, delay = "1ms" }
            rule { op = "write", every = 4, error = "EIO" }
            """
        let trace = try trace(script) { $0.workload.requests = 500 }
        let slices = Self.slices(trace)
        #expect(slices.allSatisfy { $0.end != nil })
        func counts(_ name: String) -> [UInt64] {
            trace.events.filter { $0.type == 4 && trace.tracks[$0.track]?.name == name }
                .compactMap(\.value)
        }
        let inServer = counts("IOs in the server")
        #expect(inServer.count == 1000 && inServer.last == 0 && inServer.max() ?? 0 <= 32)
        let faults = trace.events.filter { $0.name?.hasPrefix("test.lua:") == true }
        #expect(counts("faults") == Array(1...UInt64(faults.count)))
    }

    @Test func `what is lost ends the slices that are open`() throws {
        var perfetto = PerfettoTrace()
        var request = TraceStep(t: 1, step: .request)
        (request.queue, request.tag, request.io) = (0, 3, 7)
        (request.op, request.sector, request.length) = ("read", 8, 4096)
        var commit = TraceStep(t: 9, step: .commit)
        (commit.queue, commit.tag, commit.io, commit.result) = (0, 3, 8, 4096)
        let steps = [request, TraceStep(t: 5, step: .lost, count: 3), commit]
        let trace = try Trace(steps.flatMap { perfetto.bytes($0) })
        let slices = Self.slices(trace)
        #expect(slices.count == 1 && slices[0].end?.time == 5)
        #expect(trace.events.contains { $0.name == "3 steps lost" })
    }

    private func step(
        _ t: UInt64,
        _ kind: TraceStep.Kind,
        queue: UInt16,
        tag: UInt16? = nil,
        io: UInt64? = nil
    ) -> TraceStep {
        var step = TraceStep(t: t, step: kind)
        (step.queue, step.tag, step.io) = (queue, tag, io)
        if kind == .fetch { step.tags = 4 }
        if kind == .request || kind == .found { (step.op, step.length) = ("read", 4096) }
        return step
    }

    @Test func `what one queue has lost leaves the slices of another one open`() throws {
        var perfetto = PerfettoTrace()
        let steps = [
            step(1, .request, queue: 0, tag: 3, io: 7), step(2, .request, queue: 1, tag: 3, io: 9),
            step(5, .lost, queue: 0), step(9, .commit, queue: 1, tag: 3, io: 9),
        ]
        let trace = try Trace(steps.flatMap { perfetto.bytes($0) })
        #expect(Self.slices(trace).map { $0.end?.time } == [5, 9])
    }

    @Test func `somebody else who begins to follow cuts no slice and no flow`() throws {
        var perfetto = PerfettoTrace()
        let steps = [
            step(0, .fetch, queue: 0), step(1, .request, queue: 0, tag: 3, io: 7),
            step(2, .delayed, queue: 0, tag: 3, io: 7), step(4, .fetch, queue: 0),
            step(5, .found, queue: 0, tag: 3, io: 7), step(8, .continues, queue: 0, tag: 3, io: 7),
            step(9, .commit, queue: 0, tag: 3, io: 7),
        ]
        let trace = try Trace(steps.flatMap { perfetto.bytes($0) })
        let slices = Self.slices(trace)
        #expect(slices.map(\.begin.time) == [1, 2] && slices.map { $0.end?.time } == [9, 8])
        #expect(trace.events.map(\.flows.count) == [4, 1, 0, 0, 0, 0, 0, 1, 0])
    }

    @Test
    func `a command is a slice of its own track, and an instant when it was before the trace`()
        throws
    {
        var perfetto = PerfettoTrace()
        var made = TraceStep(t: 0, step: .addDevice)
        (made.ago, made.nanoseconds, made.what) = (7, 5, "1 queue")
        var later = TraceStep(t: 50, step: .updateSize)
        (later.nanoseconds, later.result) = (20, 0)
        let trace = try Trace([made, later].flatMap { perfetto.bytes($0) })
        #expect(trace.events.map(\.type) == [3, 1, 2] && trace.events.map(\.time) == [0, 30, 50])
        #expect(trace.events[0].notes["what"] == "1 queue")
        #expect(trace.tracks[trace.events[1].track]?.name == "/dev/ublk-control")
    }

    // MARK: The file

    private static func bytes(of path: String) -> [UInt8] {
        guard let file = unsafe fopen(path, "r") else { return [] }
        defer { unsafe fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 16 << 20)
        let length = unsafe fread(&bytes, 1, bytes.count, file)
        bytes.removeLast(bytes.count - length)
        return bytes
    }

    @Test(.enabled(if: ProgramRun.program != nil, "the program was not built"))
    func `a file that there is no room for ends behind a packet, and the command says so`() throws {
        let scratch = ScratchDirectory()
        let program = try #require(ProgramRun.program)
        let file = scratch.file("t.trace")
        let simulation = "'\(program)' simulate error --ops 5000 --trace -o '\(file)'"
        let run = ProgramRun(shell: "ulimit -f 600; \(simulation)", in: scratch)
        #expect(run.exitCode == 1)
        #expect(run.errors.contains("t.trace: File too large (EFBIG): the trace ends here"))
        let bytes = Self.bytes(of: file)
        #expect(bytes.count > 200 << 10 && bytes.count <= 600 << 10, "\(bytes.count)")
        #expect(try !Trace(bytes).events.isEmpty)
    }

    @Test func `the file of a device, or of another trace, is not emptied`() throws {
        let scratch = ScratchDirectory()
        let disk = scratch.file("disk.img")
        let store = try FileStore(
            path: disk,
            sizeBytes: 4096,
            claim: .exclusive,
            newFiles: NewFiles()
        )
        #expect { _ = try TraceFile(disk) } throws: {
            Failure($0).text.contains("disk.img is in use, as a device's backing file")
        }
        #expect(Self.bytes(of: disk).count == 4096)
        withExtendedLifetime(store) {}
        let first = try TraceFile(scratch.file("t.trace"))
        #expect(throws: Failure.self) { _ = try TraceFile(scratch.file("t.trace")) }
        try first.add([step(0, .fetch, queue: 0)])
        #expect(try Trace(Self.bytes(of: scratch.file("t.trace"))).events.count == 1)
    }

    @Test func `a page of Perfetto's gets the trace, and nobody gets anything else`() throws {
        let offer = try TraceOffer(port: 0)
        #expect(
            offer.link == "https://ui.perfetto.dev/#!/?url=http://127.0.0.1:\(offer.port)/trace"
        )
        var threads = ThreadList()
        threads.start("test-offer") { [port = offer.port] in
            let scratch = ScratchDirectory()
            func ask(_ line: String) -> String {
                ProgramRun(
                    shell: """
                        exec 3<>/dev/tcp/127.0.0.1/\(port)
                        printf '\(line) HTTP/1.1\\r\\nOrigin: https://ui.perfetto.dev\\r\\n\\r\\n' >&3; cat <&3
                        """,
                    in: scratch
                ).output
            }
            #expect(ask("GET /etc/passwd").hasPrefix("HTTP/1.1 404 Not Found\r\n"))
            #expect(ask("POST /trace").hasPrefix("HTTP/1.1 405"))
            #expect(ask("OPTIONS /trace").contains("Access-Control-Allow-Private-Network: true"))
            let answer = ask("GET /trace")
            #expect(answer.contains("Access-Control-Allow-Origin: https://ui.perfetto.dev\r\n"))
            #expect(
                answer.contains("Content-Length: 9\r\n") && answer.hasSuffix("\r\n\r\nthe trace")
            )
        }
        offer.serve(Array("the trace".utf8))
        threads.joinAll()
        #expect(throws: Failure.self) { _ = try TraceOffer(port: offer.port) }
    }

    @Test func `numbers are spelled as protobuf has it`() {
        var message = ProtobufMessage()
        message.add(1, 150)
        message.add(2, "testing")
        message.add(47, fixed: 1)
        #expect(
            message.bytes == [0x08, 0x96, 0x01, 0x12, 0x07] + Array("testing".utf8)
                + [0xf9, 0x02, 1, 0, 0, 0, 0, 0, 0, 0]
        )
    }
}
