/// Steps of a trace as TrackEvents of Perfetto, which ui.perfetto.dev shows: packet after packet, so that a file that
/// ends anywhere between two is a trace.
///
///     queue 0    ◆ FETCH_REQ     ◆ COMMIT_AND_FETCH_REQ
///       tag 3        ├─ read 4096 at sector 16384 ─┤
///                      ├ delayed ┤├ store 0 ┤
///
/// A flow leads from the command that fetched a tag through the slice of the request to its commit.
/// Source: Perfetto's `trace_packet.proto`, `track_event.proto`, `track_descriptor.proto`, `debug_annotation.proto`.
struct PerfettoTrace {
    /// Numbers of fields.
    private enum Field {
        enum Trace { static let packet: UInt64 = 1 }
        enum Packet {
            static let timestamp: UInt64 = 8
            static let sequence: UInt64 = 10
            static let event: UInt64 = 11
            static let descriptor: UInt64 = 60
        }
        enum Descriptor {
            static let uuid: UInt64 = 1
            static let name: UInt64 = 2
            static let parent: UInt64 = 5
            static let counter: UInt64 = 8
        }
        enum Event {
            static let annotation: UInt64 = 4
            static let type: UInt64 = 9
            static let track: UInt64 = 11
            static let category: UInt64 = 22
            static let name: UInt64 = 23
            static let counterValue: UInt64 = 30
            static let flow: UInt64 = 47
            static let endOfFlow: UInt64 = 48
        }
        enum Annotation {
            static let int: UInt64 = 4
            static let string: UInt64 = 6
            static let name: UInt64 = 10
        }
    }

    private enum EventType: UInt64 { case begin = 1, end, instant, counter }

    /// Numbers of tracks: those of queues and what is below them are larger.
    private enum Track {
        static let inServer: UInt64 = 1
        static let faults: UInt64 = 2
        static let notes: UInt64 = 3
        static let commands: UInt64 = 4
        static func queue(_ queue: UInt16) -> UInt64 { (UInt64(queue) + 1) << 32 }
        /// - Parameter transfer: 0 is the track of the tag itself.
        static func tag(_ queue: UInt16, _ tag: UInt16, transfer: UInt8 = 0) -> UInt64 {
            Self.queue(queue) | (UInt64(tag) + 1) << 8 | UInt64(transfer)
        }
    }

    /// What has not been taken yet.
    private var pending: [UInt8] = []
    private var described: Set<UInt64> = []
    /// Slices that have begun and not ended, by track.
    private var openSlices: [UInt64: Int] = [:]
    /// The numbers of the IOs that are in the server, by the track of their tag.
    private var requests: [UInt64: UInt64] = [:]
    /// The tracks of queues whose tags are fetched.
    private var fetched: Set<UInt64> = []
    /// How often each tag was fetched, by its track.
    private var fetches: [UInt64: UInt64] = [:]
    private var faults: UInt64 = 0

    /// The packets of a step.
    mutating func bytes(_ step: TraceStep) -> [UInt8] {
        add(step)
        defer { pending = [] }
        return pending
    }

    private mutating func add(_ step: TraceStep) {
        if step.step.isCommand { return command(step) }
        guard let queue = step.queue else { return note(step, ofQueue: nil) }
        let queueTrack = Track.queue(queue)
        describe(queueTrack, "queue \(queue)")
        if step.step == .lost { return note(step, ofQueue: queueTrack) }
        switch step.step {
        case .fetch, .abort: return onQueue(step, queue, queueTrack)
        default: break
        }
        guard let tag = step.tag else { return }
        let track = Track.tag(queue, tag)
        describe(track, "tag \(tag)", parent: queueTrack)
        switch step.step {
        case .request, .found: begin(request: step, track)
        case .commit: end(request: step, track, queueTrack)
        case .paused, .delayed, .held: begin(track, step, step.step.rawValue)
        case .continues: end(track, step)
        case .storeBegin, .storeEnd: transfer(step, queue, tag, track)
        case .waiting: instant(track, step, "the handler waits for data")
        case .fetch, .abort, .lost, .gap: break
        case .copyIn, .copyOut: instant(track, step, step.step.rawValue)
        case .decision, .healed, .released, .drained, .unsupported, .scriptError, .backingError,
            .copyError:
            let text = [step.who, step.what].compactMap { $0 }.joined(separator: ": ")
            instant(track, step, step.step == .decision ? text : "\(step.step.rawValue), \(text)")
            if step.isFault {
                faults += 1
                count(Track.faults, "faults", step, faults)
            }
        default: break
        }
    }

    // MARK: Steps

    private mutating func onQueue(_ step: TraceStep, _ queue: UInt16, _ track: UInt64) {
        // The queue begins anew for each who follows.
        let isFirst = step.step == .fetch && fetched.insert(track).inserted
        event(track, .instant, step, step.step.rawValue) { event in
            Self.annotate(&event, "tags", step.tags.map { Int64(clamping: $0) })
            guard isFirst else { return }
            for tag in 0..<UInt16(clamping: step.tags ?? 0) {
                event.add(Field.Event.flow, fixed: Self.flow(Track.tag(queue, tag), 0))
            }
        }
    }

    private mutating func begin(request step: TraceStep, _ track: UInt64) {
        // Somebody else has begun to follow, and the queue tells him of it.
        if step.step == .found, let io = step.io, requests[track] == io { return }
        // When its commit was lost.
        endAll(track, step)
        let isFlush = step.op == IOOp.flush.name
        let name =
            (step.op ?? "")
            + (isFlush ? "" : " \(step.length ?? 0) at sector \(step.sector ?? 0)")
        let flow = Self.flow(track, fetches[track] ?? 0)
        openSlices[track, default: 0] += 1
        event(track, .begin, step, name) { event in
            Self.annotate(&event, "io", step.io.map { Int64(clamping: $0) })
            Self.annotate(&event, "sector", step.sector.map { Int64(clamping: $0) })
            Self.annotate(&event, "bytes", step.length.map { Int64(clamping: $0) })
            Self.annotate(&event, "flags", step.flags?.joined(separator: " "))
            Self.annotate(&event, "found", step.step == .found ? step.what : nil)
            event.add(Field.Event.flow, fixed: flow)
        }
        requests[track] = step.io ?? 0
        count(Track.inServer, "IOs in the server", step, UInt64(requests.count))
    }

    private mutating func end(request step: TraceStep, _ track: UInt64, _ queueTrack: UInt64) {
        let number = fetches[track] ?? 0
        fetches[track] = number + 1
        while openSlices[track] ?? 0 > 1 { end(track, step) }
        if openSlices[track] ?? 0 == 1 {
            openSlices[track] = 0
            event(track, .end, step, nil) { event in
                Self.annotate(&event, "result", step.result)
                Self.annotate(&event, "errno", step.errno)
            }
        }
        let tag = step.tag ?? 0
        event(queueTrack, .instant, step, step.step.rawValue) { event in
            Self.annotate(&event, "tag", Int64(tag))
            Self.annotate(&event, "io", step.io.map { Int64(clamping: $0) })
            Self.annotate(&event, "result", step.result)
            Self.annotate(&event, "errno", step.errno)
            event.add(Field.Event.flow, fixed: Self.flow(track, number + 1))
            event.add(Field.Event.endOfFlow, fixed: Self.flow(track, number))
        }
        requests[track] = nil
        count(Track.inServer, "IOs in the server", step, UInt64(requests.count))
    }

    /// The first transfer of an IO is a part of its slice; others may overlap it and have tracks of their own.
    private mutating func transfer(
        _ step: TraceStep,
        _ queue: UInt16,
        _ tag: UInt16,
        _ tagTrack: UInt64
    ) {
        let number = step.transfer ?? 0
        let track = Track.tag(queue, tag, transfer: number)
        if number > 0 { describe(track, "tag \(tag), transfer \(number)", parent: tagTrack) }
        guard step.step == .storeBegin else { return end(track, step) }
        begin(track, step, "store \(step.store ?? 0)")
    }

    /// A command for /dev/ublk-control, one of which is under way at a time; of one that was over before the trace only
    /// that it was.
    private mutating func command(_ step: TraceStep) {
        describe(Track.commands, "/dev/ublk-control")
        var first = step
        first.t -= min(step.nanoseconds ?? 0, step.t)
        let type: EventType = step.ago == nil ? .begin : .instant
        event(Track.commands, type, first, step.step.rawValue) { event in
            Self.annotate(&event, "what", step.what)
            Self.annotate(&event, "result", step.result)
            Self.annotate(&event, "errno", step.errno)
            Self.annotate(&event, "took nanoseconds", step.nanoseconds.map { Int64(clamping: $0) })
            Self.annotate(
                &event,
                "nanoseconds before the trace",
                step.ago.map { Int64(clamping: $0) }
            )
        }
        if step.ago == nil { event(Track.commands, .end, step, nil) { _ in } }
    }

    /// Something is missing here, of all queues or of one.
    private mutating func note(_ step: TraceStep, ofQueue queueTrack: UInt64?) {
        if step.what == nil {
            let isMissing = { (track: UInt64) in queueTrack.map { track >> 32 == $0 >> 32 } ?? true
            }
            for track in openSlices.keys.sorted() where isMissing(track) { endAll(track, step) }
            requests = requests.filter { !isMissing($0.key) }
        }
        describe(Track.notes, "trace")
        let count = step.count.map { "\($0) \(step.what ?? "steps") " } ?? ""
        instant(queueTrack ?? Track.notes, step, count + step.step.rawValue)
    }

    // MARK: Events

    private mutating func begin(_ track: UInt64, _ step: TraceStep, _ name: String) {
        openSlices[track, default: 0] += 1
        event(track, .begin, step, name) { event in
            Self.annotate(&event, "op", step.step == .storeBegin ? step.op : nil)
            Self.annotate(&event, "what", step.what)
            Self.annotate(&event, "offset", step.offset.map { Int64(clamping: $0) })
            Self.annotate(&event, "bytes", step.length.map { Int64(clamping: $0) })
            Self.annotate(&event, "nanoseconds", step.nanoseconds.map { Int64(clamping: $0) })
        }
    }

    private mutating func end(_ track: UInt64, _ step: TraceStep) {
        guard let count = openSlices[track], count > 0 else { return }
        openSlices[track] = count - 1
        event(track, .end, step, nil) { event in
            Self.annotate(&event, "result", step.step == .storeEnd ? step.result : nil)
        }
    }

    private mutating func endAll(_ track: UInt64, _ step: TraceStep) {
        while openSlices[track] ?? 0 > 0 { end(track, step) }
    }

    private mutating func instant(_ track: UInt64, _ step: TraceStep, _ name: String) {
        event(track, .instant, step, name) { _ in }
    }

    private mutating func count(_ track: UInt64, _ name: String, _ step: TraceStep, _ value: UInt64)
    {
        describe(track, name, isCounter: true)
        event(track, .counter, step, nil) { $0.add(Field.Event.counterValue, value) }
    }

    private mutating func event(
        _ track: UInt64,
        _ type: EventType,
        _ step: TraceStep,
        _ name: String?,
        _ more: (inout ProtobufMessage) -> Void
    ) {
        var event = ProtobufMessage()
        event.add(Field.Event.type, type.rawValue)
        event.add(Field.Event.track, track)
        if let name {
            event.add(Field.Event.category, "ublk")
            event.add(Field.Event.name, name)
        }
        more(&event)
        packet(Field.Packet.event, event, at: step.t)
    }

    private static func annotate(_ event: inout ProtobufMessage, _ name: String, _ value: Int64?) {
        guard let value else { return }
        var annotation = ProtobufMessage()
        annotation.add(Field.Annotation.name, name)
        annotation.add(Field.Annotation.int, UInt64(bitPattern: value))
        event.add(Field.Event.annotation, annotation)
    }

    private static func annotate(_ event: inout ProtobufMessage, _ name: String, _ value: String?) {
        guard let value else { return }
        var annotation = ProtobufMessage()
        annotation.add(Field.Annotation.name, name)
        annotation.add(Field.Annotation.string, value)
        event.add(Field.Event.annotation, annotation)
    }

    /// The flow from a tag's fetch of that number to the commit of the request that it brought.
    private static func flow(_ track: UInt64, _ fetch: UInt64) -> UInt64 {
        // A tag's track leaves the lowest 8 bits and those from 49 on.
        track &* 0x9e37_79b9_7f4a_7c15 ^ fetch
    }

    // MARK: Packets

    private mutating func describe(
        _ track: UInt64,
        _ name: String,
        parent: UInt64? = nil,
        isCounter: Bool = false
    ) {
        guard described.insert(track).inserted else { return }
        var descriptor = ProtobufMessage()
        descriptor.add(Field.Descriptor.uuid, track)
        descriptor.add(Field.Descriptor.name, name)
        if let parent { descriptor.add(Field.Descriptor.parent, parent) }
        if isCounter { descriptor.add(Field.Descriptor.counter, ProtobufMessage()) }
        packet(Field.Packet.descriptor, descriptor, at: nil)
    }

    private mutating func packet(_ field: UInt64, _ content: ProtobufMessage, at time: UInt64?) {
        var packet = ProtobufMessage()
        if let time { packet.add(Field.Packet.timestamp, time) }
        packet.add(Field.Packet.sequence, 1)
        packet.add(field, content)
        var trace = ProtobufMessage()
        trace.add(Field.Trace.packet, packet)
        pending += trace.bytes
    }
}

extension TraceStep {
    /// The step is something that went otherwise than without a script and without an error.
    fileprivate var isFault: Bool {
        switch step {
        case .decision: who != nil
        case .scriptError, .backingError, .copyError, .unsupported: true
        default: false
        }
    }
}
