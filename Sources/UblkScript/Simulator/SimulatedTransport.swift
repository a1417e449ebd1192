import SystemPackage

/// A driver, an application and a backing file in one, on virtual time: the other side of a
/// ``Queue`` in tests and in `simulate`.
///
/// What the queues of a device share is the ``SimulatedMachine``'s. The application keeps `depth` requests in flight,
/// by turns on each queue. Time stands still while a queue works and
/// jumps to the next event or deadline when it waits. All chance comes from the seed, so a run can
/// be repeated. What the driver would refuse stops the program here; each such rule names the
/// function of `drivers/block/ublk_drv.c` that has it.
///
///     idle ─► arriving ─► server's ─► committed ─► (next wait) idle
///                          │    ▲
///                       file operation
///
/// When no request is left and none is in flight on any queue, every tag is aborted, as by STOP_DEV, and
/// `Queue.run()` returns. When everything in flight is held for ever, the device is stopped as the
/// server would do it: drain first.
struct SimulatedTransport: QueueTransport, ~Copyable {
    let buffers: SimulatedBuffers
    private let depth: Int

    let machine: SimulatedMachine
    let puller: DataPuller?
    let mode: DataMode
    /// Number of the queue.
    private let queue: Int

    var slots: [Slot]
    /// Requests that are on their way, by their time of arrival.
    private var arrivals: TimerHeap
    /// Operations of transfers that are under way, by their time of completion.
    private var operations: [OperationUnderWay] = []
    /// What the driver has answered at once; the next wait brings it.
    var answers: [QueueEvent] = []
    var hasAnswers: Bool { !answers.isEmpty }
    /// Operations on pages that were not lent: they take as long as planned when they are sent again.
    private var postponed: [OperationUnderWay] = []
    var batch: [QueueEvent] = []
    private var batchNext = 0
    private var commits: [(tag: Tag, result: Int32)] = []
    private var interventions: [Intervention]
    private let wakeup: QueueWakeup
    private var control: QueueControl { machine.controls[queue] }
    /// When the wait for a moment is over; see ``wait(nanoseconds:)``.
    private(set) var alarm: Instant?
    private var isAborted = false

    struct Slot {
        enum Owner { case idle, arriving, server, committed, aborted }
        var owner = Owner.idle
        var request = SimulatedRequest(op: .read)
        /// Number of transfers of which an operation is under way.
        var underWay = 0
        /// The data of a read was pushed.
        var isPushed = false
        /// Bytes of the request's own pages that files have read or written.
        var lentBytes: UInt64 = 0
        var flags: IOFlags = []
        /// Its pages were lent because the server asked for that.
        var isLent = false
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
        /// The queue that gets it.
        var queue = 0
    }

    /// How long a request takes to be made and sent, on top of up to twice as much by chance; or as the workload
    /// says.
    static let arrivalNanoseconds: UInt64 = 5_000
    /// How long a file operation takes, on top of up to twice as much by chance.
    static let fileNanoseconds: UInt64 = 30_000

    /// - Parameter interventions: those of other queues are left out.
    init(
        _ machine: SimulatedMachine,
        queue: Int = 0,
        depth: Int,
        maxIOBytes: Int,
        mode: DataMode = .copy,
        wakeup: QueueWakeup,
        interventions: [Intervention]
    ) {
        self.machine = machine
        self.mode = mode
        self.queue = queue
        self.depth = depth
        self.wakeup = wakeup
        self.interventions = interventions.filter { $0.queue == queue }.sorted { $0.at < $1.at }
        let buffers = SimulatedBuffers(depth: depth, maxIOBytes: maxIOBytes, mode: mode)
        self.buffers = buffers
        puller = !mode.serverCopies ? nil : DataPuller { machine.pull($0, $1, buffers) }
        slots = Array(repeating: Slot(), count: depth)
        arrivals = TimerHeap(depth: depth)
        batch.reserveCapacity(depth + 1)
        commits.reserveCapacity(depth)
        offerIdle()
    }

    // MARK: The queue's side

    var now: Instant { machine.now }

    mutating func wait(until deadline: Instant?) {
        precondition(batchNext == batch.count, "the queue waits with events left unread")
        batch.removeAll(keepingCapacity: true)
        batchNext = 0
        machine.isStuck = false
        takeCommits()
        if takeAnswers() || takeWakeup() || hasEnded() { return }
        let own = nextOwnEvent
        let next = [deadline, own].compactMap { $0 }.min()
        guard let next, machine.pass(to: next, isForEvent: own != nil) else {
            return stopWhatIsHeld()
        }
        if let alarm, alarm <= now { self.alarm = nil }
        while let tag = arrivals.popDue(at: now) { arrived(tag) }
        while let first = operations.first, first.end <= now { ended(operations.removeFirst()) }
        while let first = interventions.first, first.at <= now {
            interventions.removeFirst()
            control.send(first.message)
        }
        if queue == 0 { machine.sayWhatIsDue() }
        _ = takeWakeup()
    }

    /// When something comes to the queue by itself.
    var nextOwnEvent: Instant? {
        [
            arrivals.nextDeadline, operations.first?.end, interventions.first?.at,
            queue == 0 ? machine.nextStep : nil, alarm,
        ].compactMap { $0 }.min()
    }

    /// When a wait would be over; nil: never by itself.
    func endOfWait(until deadline: Instant?) -> Instant? {
        if wakeup.isPending || machine.isOver || !answers.isEmpty { return now }
        return [deadline, nextOwnEvent].compactMap { $0 }.min()
    }

    mutating func nextEvent() -> QueueEvent? {
        guard batchNext < batch.count else { return nil }
        batchNext += 1
        return batch[batchNext - 1]
    }

    func desc(_ tag: Tag) -> IODesc {
        precondition(slots[tag.index].owner == .server, "the descriptor of a tag without a request")
        var desc = slots[tag.index].request.desc
        desc.flags.formUnion(slots[tag.index].flags)
        return desc
    }

    func data(_ tag: Tag) -> IOData { unsafe .mapped(buffers.buffer(tag)) }
    var scratchOffset: Int { buffers.scratchOffset }
    var copiesOnDemand: Bool { mode.serverCopies }
    var lendsData: Bool { mode.lendsPages }

    mutating func commit(_ tag: Tag, _ commit: Commit) {
        // ublk_ch_uring_cmd_local: EBUSY for a tag the server does not own.
        precondition(
            slots[tag.index].owner == .server,
            "commit of a tag that is \(slots[tag.index].owner)"
        )
        precondition(slots[tag.index].underWay == 0, "commit while a file is still at work")
        precondition(!slots[tag.index].isLent, "commit of a request whose pages are lent")
        BlockLayer.check(slots[tag.index].request, result: commit.result)
        let slot = slots[tag.index]
        if copiesOnDemand, slot.request.op == .read, commit.result > 0 {
            // The driver takes it as it is: the reader would get what was in its pages before.
            let isThere = slot.isPushed || slot.lentBytes == commit.result
            precondition(isThere, "commit of a read whose data was not pushed")
        }
        slots[tag.index].owner = .committed
        commits.append((tag, commit.result))
    }

    mutating func submit(_ operation: FileOperation, for tag: Tag, transfer: Int) {
        precondition(machine.files.indices.contains(Int(operation.file)), "an operation on no file")
        precondition(
            slots[tag.index].owner == .server,
            "a file operation for a tag without a request"
        )
        precondition(
            !operations.contains { $0.tag == tag && $0.transfer == transfer },
            "two operations of one transfer at a time"
        )
        let dataBytes = operation.kind.hasData ? Int(operation.lengthBytes) : 0
        precondition(
            operation.dataOffset >= 0 && operation.dataOffset + dataBytes <= buffers.stride
        )
        if operation.isOnRequest { checkLoan(operation, tag) }
        slots[tag.index].underWay += 1
        let end = endOfOperation(tag, transfer)
        let new = OperationUnderWay(end: end, tag: tag, transfer: transfer, operation: operation)
        if operation.isOnRequest, !isLent(tag) {
            postponed.append(new)
            let refusal = -Errno.badAddress.rawValue
            return answers.append(.operation(tag, transfer: transfer, result: refusal))
        }
        operations.insert(new, at: operations.firstIndex { $0.end > end } ?? operations.count)
    }

    private mutating func endOfOperation(_ tag: Tag, _ transfer: Int) -> Instant {
        if let place = postponed.firstIndex(where: { $0.tag == tag && $0.transfer == transfer }) {
            return postponed.remove(at: place).end
        }
        let nanoseconds = Self.fileNanoseconds + machine.random.below(2 * Self.fileNanoseconds)
        return now.advanced(byNanoseconds: nanoseconds)
    }

    /// Memory answers at once: what a power loss would take of it is known only here.
    @inline(never)
    mutating func willCarryOut(_ transfer: Transfer, for tag: Tag) {
        guard let image = machine.images[Int(transfer.store)] else { return }
        switch transfer.op {
        case .read: return
        case .write:
            let data = unsafe buffers.buffer(tag) + Int(transfer.at)
            unsafe image.willWrite(
                at: transfer.offset,
                UnsafeRawBufferPointer(start: data, count: Int(transfer.length)),
                isDurable: transfer.isDurable
            )
        case .discard, .writeZeroes: image.willClear(at: transfer.offset, length: transfer.length)
        case .flush: image.flush()
        }
    }

    // MARK: A test's side

    /// Sends a request from outside, at once.
    ///
    /// - Returns: false when every tag is in use.
    mutating func send(_ request: SimulatedRequest, number: UInt64, data: [UInt8]) -> Bool {
        guard !machine.isStopping, let index = slots.firstIndex(where: { $0.owner == .idle })
        else {
            return false
        }
        let tag = Tag(UInt16(index))
        machine.application.hand(place(tag), number: number, data: data)
        slots[index].request = request
        slots[index].owner = .arriving
        machine.inFlight += 1
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
        return machine.application.takeEnded()
    }

    /// In the last wait there was nothing to wait for.
    var isStuck: Bool { machine.isStuck }

    /// No request comes from outside any more: the device ends when those in flight do.
    mutating func close() { machine.application.close() }

    /// Sends what the application has for the queue's part of its places.
    mutating func offerIdle() {
        for index in 0..<depth where slots[index].owner == .idle {
            let place = index * machine.queues + queue
            guard place < machine.application.depth else { return }
            offer(Tag(UInt16(index)))
        }
    }

    // MARK: The driver's and the application's side

    /// The tag among those of all queues.
    private func place(_ tag: Tag) -> Int { queue * depth + tag.index }

    /// Sends the tag's next request on its way, or leaves the tag idle when there is none.
    private mutating func offer(_ tag: Tag) {
        slots[tag.index].owner = .idle
        if !machine.isStopping { machine.takeSteps() }
        guard !machine.isStopping, let request = machine.application.next() else { return }
        // From half of the mean to one and a half of it.
        let mean = max(1, machine.application.gapNanoseconds ?? 2 * Self.arrivalNanoseconds)
        let arrival = arrival(request.start, later: mean / 2 + machine.random.below(mean))
        // What was said before it is heard before it.
        let said = machine.notBefore
        let earliest = said.advanced(byNanoseconds: said.nanoseconds == 0 ? 0 : 1)
        let time = max(arrival, earliest)
        guard machine.application.isAtWork(at: time) else { return }
        slots[tag.index].request = request
        slots[tag.index].owner = .arriving
        machine.inFlight += 1
        arrivals.push(tag, deadline: time)
    }

    private func arrival(_ start: SimulatedRequest.Start, later nanoseconds: UInt64) -> Instant {
        switch start {
        case .soon: now.advanced(byNanoseconds: nanoseconds)
        case .after(let time): max(now, time).advanced(byNanoseconds: nanoseconds)
        case .at(let time): max(now, time)
        }
    }

    /// The driver sees commits only when the ring is entered.
    mutating func takeCommits() {
        if wakeup.wantsStop { machine.isStopping = true }
        for (tag, result) in commits {
            let request = slots[tag.index].request
            unsafe machine.application.ended(
                place(tag),
                request,
                result: result,
                at: now,
                buffers.data(tag)
            )
            machine.inFlight -= 1
            offer(tag)
        }
        commits.removeAll(keepingCapacity: true)
    }

    /// From here the driver would have copied a write's data into the buffer (ublk_map_io), in copy mode.
    private mutating func arrived(_ tag: Tag) {
        slots[tag.index].owner = .server
        slots[tag.index].isPushed = false
        slots[tag.index].lentBytes = 0
        let request = slots[tag.index].request
        if mode.lendsUnasked { slots[tag.index].flags = machine.copies.register() }
        unsafe machine.application.sent(place(tag), request, at: now, buffers.data(tag))
        let hasData = request.op == .read || request.op == .write
        buffers.come(tag, bytes: hasData ? Int(request.lengthBytes) : 0)
        batch.append(.fetched(tag))
    }

    private mutating func ended(_ over: OperationUnderWay) {
        let isLent = over.operation.isOnRequest
        let room = unsafe isLent ? buffers.data(over.tag) : buffers.buffer(over.tag)
        let file = Int(over.operation.file)
        let result = unsafe machine.files[file].perform(
            over.operation,
            room + over.operation.dataOffset
        )
        if isLent, result > 0 { slots[over.tag.index].lentBytes += UInt64(result) }
        slots[over.tag.index].underWay -= 1
        batch.append(.operation(over.tag, transfer: over.transfer, result: result))
    }

    private mutating func takeWakeup() -> Bool {
        guard wakeup.take() else { return false }
        batch.append(.wakeup)
        return true
    }

    /// Takes every tag back once nothing is in flight (ublk_stop_dev, ublk_cancel_queue).
    private mutating func hasEnded() -> Bool {
        guard machine.isQuiet else { return false }
        if machine.application.isKept { return true }
        guard machine.isOver else { return false }
        precondition(!isAborted, "a wait after every tag was aborted")
        isAborted = true
        for index in 0..<depth {
            slots[index].owner = .aborted
            batch.append(.aborted(Tag(UInt16(index))))
        }
        return true
    }

    private mutating func stopWhatIsHeld() {
        machine.stopWhatIsHeld()
        guard machine.heldForEver != nil else { return }
        precondition(takeWakeup(), "the queue's wakeup is not the transport's")
    }
}
