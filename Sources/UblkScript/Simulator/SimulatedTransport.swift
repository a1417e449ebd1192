import SystemPackage

/// A driver, an application and a backing file in one, on virtual time: the other side of a
/// ``Queue`` in tests and in `simulate`.
///
/// The application keeps `depth` requests in flight. Time stands still while the queue works and
/// jumps to the next event or deadline when it waits. All chance comes from the seed, so a run can
/// be repeated. What the driver would refuse stops the program here; each such rule names the
/// function of `drivers/block/ublk_drv.c` that has it.
///
///     idle ─► arriving ─► server's ─► committed ─► (next wait) idle
///                          │    ▲
///                       file operation
///
/// When no request is left and none is in flight, every tag is aborted, as by STOP_DEV, and
/// `Queue.run()` returns. When everything in flight is held for ever, the device is stopped as the
/// server would do it: drain first.
@safe
struct SimulatedTransport: QueueTransport, ~Copyable {
    // Safety: `buffers` has `depth` buffers of `bufferBytes`, freed in deinit; tags are checked
    // against `depth`.
    private let buffers: UnsafeMutableRawPointer
    private let bufferBytes: Int
    private let depth: Int

    private(set) var now = Instant(nanoseconds: 0)
    private(set) var application: SimulatedApplication
    private(set) var files: [SimulatedFile]
    /// How many requests were held when nothing else could happen any more; nil: that did not
    /// happen.
    private(set) var heldForEver: Int?

    private var slots: [Slot]
    /// Requests that are on their way, by their time of arrival.
    private var arrivals: TimerHeap
    /// Operations of transfers that are under way, by their time of completion.
    private var operations: [OperationUnderWay] = []
    private var batch: [QueueEvent] = []
    private var batchNext = 0
    private var commits: [(tag: Tag, result: Int32)] = []
    private var interventions: [Intervention]
    private let bell: Doorbell
    private let control: QueueControl
    private var random: SplitMix64
    private var inFlight = 0
    /// Number of consecutive waits that ended by nothing but the queue's own deadlines.
    private var timersAlone = 0
    /// So many such waits mean that requests are held for ever, while the script's timers go on.
    private static let timersAloneMax = 2_000_000
    /// When the wait for a moment is over; see ``wait(nanoseconds:)``.
    private(set) var alarm: Instant?
    /// True when the last wait had nothing to wait for: the requests in flight will never end by themselves.
    private(set) var isStuck = false
    /// Steps of the workload that are still to come, and the time before which nothing more of it is done.
    private var steps: [Step] = []
    private var notBefore = Instant(nanoseconds: 0)
    private var isStopping = false
    private var isAborted = false

    private struct Slot {
        enum Owner { case idle, arriving, server, committed, aborted }
        var owner = Owner.idle
        var request = SimulatedRequest(op: .read)
        /// Number of transfers of which an operation is under way.
        var underWay = 0
    }

    private struct OperationUnderWay {
        let end: Instant
        let tag: Tag
        let transfer: Int
        let operation: FileOperation
    }

    /// A message from another thread at some time of the run.
    struct Intervention {
        let at: Instant
        let message: QueueMessage
    }

    /// A word that the workload says at some time of the run.
    private struct Step {
        let at: Instant
        let origin: String
        let words: [String]
        let request: QueueRequest
    }

    /// How long a request takes to be made and sent, on top of up to twice as much by chance; or as the workload
    /// says.
    static let arrivalNanoseconds: UInt64 = 5_000
    /// How long a file operation takes, on top of up to twice as much by chance.
    static let fileNanoseconds: UInt64 = 30_000

    init(
        application: SimulatedApplication,
        files: [SimulatedFile],
        depth: Int,
        maxIOBytes: Int,
        bell: Doorbell,
        control: QueueControl,
        interventions: [Intervention],
        seed: UInt64
    ) {
        self.application = application
        self.files = files
        self.depth = depth
        self.bell = bell
        self.control = control
        self.interventions = interventions.sorted { $0.at < $1.at }
        random = SplitMix64(seed: seed, stream: 3)
        bufferBytes = SystemPage.roundUp(maxIOBytes) + QueueScratch.bytes
        unsafe buffers = .allocate(byteCount: depth * bufferBytes, alignment: SystemPage.bytes)
        slots = Array(repeating: Slot(), count: depth)
        arrivals = TimerHeap(depth: depth)
        batch.reserveCapacity(depth + 1)
        commits.reserveCapacity(depth)
        for index in 0..<min(depth, application.depth) { offer(Tag(UInt16(index))) }
    }

    deinit { unsafe buffers.deallocate() }

    // MARK: The queue's side

    mutating func wait(until deadline: Instant?) {
        precondition(batchNext == batch.count, "the queue waits with events left unread")
        batch.removeAll(keepingCapacity: true)
        batchNext = 0
        isStuck = false
        if bell.wantsStop { isStopping = true }
        takeCommits()
        if hearsBell() || hasEnded() { return }
        let own = [
            arrivals.nextDeadline, operations.first?.end, interventions.first?.at, steps.first?.at,
            alarm,
        ].compactMap { $0 }.min()
        let next = [deadline, own].compactMap { $0 }.min()
        guard let next else { return stopWhatIsHeld() }
        if own != nil { timersAlone = 0 }
        timersAlone += 1
        guard timersAlone < Self.timersAloneMax else { return stopWhatIsHeld() }
        now = max(now, next)
        if let alarm, alarm <= now { self.alarm = nil }
        while let tag = arrivals.popDue(at: now) { arrived(tag) }
        while let first = operations.first, first.end <= now { ended(operations.removeFirst()) }
        while let first = interventions.first, first.at <= now {
            interventions.removeFirst()
            control.send(first.message)
        }
        while let first = steps.first, first.at <= now { say(steps.removeFirst()) }
        _ = hearsBell()
    }

    mutating func nextEvent() -> QueueEvent? {
        guard batchNext < batch.count else { return nil }
        batchNext += 1
        return batch[batchNext - 1]
    }

    func desc(_ tag: Tag) -> IODesc {
        precondition(slots[tag.index].owner == .server, "the descriptor of a tag without a request")
        return slots[tag.index].request.desc
    }

    func data(_ tag: Tag) -> IOData { unsafe .mapped(buffer(tag)) }

    private func buffer(_ tag: Tag) -> UnsafeMutableRawPointer {
        precondition(tag.index < depth)
        return unsafe buffers + tag.index * bufferBytes
    }

    var scratchOffset: Int { bufferBytes - QueueScratch.bytes }

    mutating func commit(_ tag: Tag, _ commit: Commit) {
        // ublk_ch_uring_cmd_local: EBUSY for a tag the server does not own.
        precondition(
            slots[tag.index].owner == .server,
            "commit of a tag that is \(slots[tag.index].owner)"
        )
        precondition(slots[tag.index].underWay == 0, "commit while a file is still at work")
        BlockLayer.check(slots[tag.index].request, result: commit.result)
        slots[tag.index].owner = .committed
        commits.append((tag, commit.result))
    }

    mutating func submit(_ operation: FileOperation, for tag: Tag, transfer: Int) {
        precondition(files.indices.contains(Int(operation.file)), "an operation on no file")
        precondition(
            slots[tag.index].owner == .server,
            "a file operation for a tag without a request"
        )
        precondition(
            !operations.contains { $0.tag == tag && $0.transfer == transfer },
            "two operations of one transfer at a time"
        )
        let dataBytes = operation.kind.hasData ? Int(operation.lengthBytes) : 0
        precondition(operation.dataOffset >= 0 && operation.dataOffset + dataBytes <= bufferBytes)
        slots[tag.index].underWay += 1
        let nanoseconds = Self.fileNanoseconds + random.below(2 * Self.fileNanoseconds)
        let end = now.advanced(byNanoseconds: nanoseconds)
        let place = operations.firstIndex { $0.end > end } ?? operations.count
        operations.insert(
            OperationUnderWay(end: end, tag: tag, transfer: transfer, operation: operation),
            at: place
        )
    }

    // MARK: A test's side

    /// Sends a request from outside, at once.
    ///
    /// - Returns: false when every tag is in use.
    mutating func send(_ request: SimulatedRequest, number: UInt64, data: [UInt8]) -> Bool {
        guard !isStopping, let index = slots.firstIndex(where: { $0.owner == .idle }) else {
            return false
        }
        let tag = Tag(UInt16(index))
        application.hand(tag, number: number, data: data)
        slots[index].request = request
        slots[index].owner = .arriving
        inFlight += 1
        arrivals.push(tag, deadline: now)
        return true
    }

    /// Lets so much time pass: ``alarm`` is nil when it has.
    mutating func wait(nanoseconds: UInt64) {
        alarm = now.advanced(byNanoseconds: nanoseconds)
    }

    /// What came of the requests from outside that are over, those just committed too; once.
    mutating func takeEnded() -> [HandedRequests.Ended] {
        takeCommits()
        return application.takeEnded()
    }

    /// No request comes from outside any more: the device ends when those in flight do.
    mutating func close() { application.close() }

    /// Nothing is in flight, and the application makes no more by itself.
    var isIdle: Bool { inFlight == 0 && commits.isEmpty && steps.isEmpty }

    /// The application goes on with these reads.
    mutating func readBack(_ stream: RequestStream) {
        application.readBack(stream)
        for index in 0..<min(depth, application.depth) where slots[index].owner == .idle {
            offer(Tag(UInt16(index)))
        }
    }

    /// The device stays when every request is over.
    mutating func keep() { application.isKept = true }

    /// The application has nothing more to do: the device ends when what is in flight does.
    mutating func letGo() { application.isKept = false }

    // MARK: The driver's and the application's side

    /// Sends the tag's next request on its way, or leaves the tag idle when there is none.
    private mutating func offer(_ tag: Tag) {
        slots[tag.index].owner = .idle
        if !isStopping { takeSteps() }
        guard !isStopping, let request = application.next() else { return }
        // From half of the mean to one and a half of it.
        let mean = max(1, application.gapNanoseconds ?? 2 * Self.arrivalNanoseconds)
        let arrival = arrival(request.start, later: mean / 2 + random.below(mean))
        // What was said before it is heard before it.
        let earliest = notBefore.advanced(byNanoseconds: notBefore.nanoseconds == 0 ? 0 : 1)
        let time = max(arrival, earliest)
        guard application.isAtWork(at: time) else { return }
        slots[tag.index].request = request
        slots[tag.index].owner = .arriving
        inFlight += 1
        arrivals.push(tag, deadline: time)
    }

    /// What the workload does before its next request.
    private mutating func takeSteps() {
        for step in application.takeSteps() {
            let start =
                switch step.start {
                case .soon: now
                case .after(let time), .at(let time): max(now, time)
                }
            notBefore = max(notBefore, start)
            switch step.action {
            case .wait(let nanoseconds):
                notBefore = notBefore.advanced(byNanoseconds: nanoseconds)
            case .say(let words, let request):
                steps.append(
                    Step(at: notBefore, origin: step.origin, words: words, request: request)
                )
            }
        }
    }

    private mutating func say(_ step: Step) {
        let answer = Dispatcher(SimulatedQueue(control: control)).begin(.queue(step.request))
        application.said.append(
            SaidWord(
                origin: step.origin,
                words: step.words,
                request: step.request,
                answer: answer
            )
        )
    }

    private func arrival(_ start: SimulatedRequest.Start, later nanoseconds: UInt64) -> Instant {
        switch start {
        case .soon: now.advanced(byNanoseconds: nanoseconds)
        case .after(let time): max(now, time).advanced(byNanoseconds: nanoseconds)
        case .at(let time): max(now, time)
        }
    }

    /// The driver sees commits only when the ring is entered.
    private mutating func takeCommits() {
        for (tag, result) in commits {
            let slot = slots[tag.index]
            unsafe application.ended(tag, slot.request, result: result, at: now, buffer(tag))
            inFlight -= 1
            offer(tag)
        }
        commits.removeAll(keepingCapacity: true)
    }

    /// From here the driver would have copied a write's data into the buffer (ublk_map_io).
    private mutating func arrived(_ tag: Tag) {
        slots[tag.index].owner = .server
        unsafe application.sent(tag, slots[tag.index].request, at: now, buffer(tag))
        batch.append(.fetched(tag))
    }

    private mutating func ended(_ over: OperationUnderWay) {
        let place = unsafe buffer(over.tag) + over.operation.dataOffset
        let result = unsafe files[Int(over.operation.file)].perform(over.operation, place)
        slots[over.tag.index].underWay -= 1
        batch.append(.operation(over.tag, transfer: over.transfer, result: result))
    }

    private mutating func hearsBell() -> Bool {
        guard bell.answered() else { return false }
        batch.append(.wakeup)
        return true
    }

    /// Takes every tag back once nothing is in flight (ublk_stop_dev, ublk_cancel_queue).
    private mutating func hasEnded() -> Bool {
        guard inFlight == 0, steps.isEmpty else { return false }
        if application.isKept { return true }
        guard !application.isOpen else { return false }
        precondition(!isAborted, "a wait after every tag was aborted")
        isAborted = true
        for index in 0..<depth {
            slots[index].owner = .aborted
            batch.append(.aborted(Tag(UInt16(index))))
        }
        return true
    }

    /// Nothing will ever happen by itself: the administrator deletes the device, and the server
    /// drains its queues.
    private mutating func stopWhatIsHeld() {
        timersAlone = 0
        isStuck = true
        if application.isOpen { return }
        precondition(heldForEver == nil, "requests are held by a queue that was told to drain")
        heldForEver = inFlight
        isStopping = true
        control.send(.drain)
        precondition(hearsBell(), "the queue's bell is not the transport's")
    }
}
