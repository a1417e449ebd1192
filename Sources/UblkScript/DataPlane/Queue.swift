import CLua
import Synchronization
import SystemPackage

/// Serves one hardware queue: fetch, decide, perform, commit.
///
/// The same code runs on the driver and in the simulator.
///
/// Born, lives and dies on its thread, with its transport, its Lua state and its tables. Nothing
/// here blocks, allocates, locks or throws per IO: a delay is an entry in the timer heap, a hang is
/// a state of the tag.
///
///     wait ─► nextEvent ─► serve ─► decide ─► advance ─► finish ─► perform ─► complete ─► commit
///                                               │  ▲                  │  ▲
///                                            timer, release        file operation
@safe
struct Queue<Transport: QueueTransport & ~Copyable>: ~Copyable {
    // Safety: pointers come from `requests` and `transport`, which live as long as the queue.
    var transport: Transport
    var script: Script
    var rules: RuleSet
    var requests: RequestTable
    var timers: TimerHeap
    var configuration: QueueConfiguration
    let backings: BackingTable
    let shared: SharedObjects
    let control: QueueControl
    /// Those of `control`.
    let times: IOTimes.Writer
    let report: any QueueReport
    var live: LiveControl
    /// A script that is ready to take the place of the one that runs, and what it is of.
    var prepared: LoadedScript?
    var reload: ScriptReload?

    private var sequence: UInt64 = 0
    private var abortedTags = 0
    /// Requests between fetch and commit.
    private var inFlight = 0
    private(set) var isDraining = false
    /// What arrives is held before anything is decided about it.
    var isPaused = false
    private var hasQuit = false
    /// Room for the tags that are let go together, and the numbers for a random order.
    var held: [Tag] = []
    var shuffle: us_random

    init(
        transport: consuming Transport,
        script: consuming Script,
        rules: consuming RuleSet,
        configuration: QueueConfiguration,
        shared: SharedObjects,
        control: QueueControl,
        report: any QueueReport
    ) throws(ScriptError) {
        self.transport = transport
        self.script = script
        self.rules = rules
        self.configuration = configuration
        backings = BackingTable(configuration.backings)
        self.shared = shared
        self.control = control
        times = control.times.writer
        self.report = report
        live = LiveControl(
            rules: configuration.rules,
            seed: configuration.seed,
            counters: self.rules.counters,
            shared: shared
        )
        requests = RequestTable(depth: configuration.depth, queue: configuration.queue)
        timers = TimerHeap(depth: configuration.depth)
        held.reserveCapacity(configuration.depth)
        // No rule has this stream.
        shuffle = us_random_stream(
            configuration.seed,
            UInt32(configuration.queue.rawValue),
            .max
        )
        try self.rules.attach(shared, self.script, deviceBytes: configuration.sizeBytes)
        try bind(self.script)
    }

    /// Serves until the driver has taken every tag back, or ``QueueMessage/quit``.
    mutating func run() {
        while !hasQuit, abortedTags < configuration.depth { turn() }
        // The kernel may still be writing into a tag's buffer, which goes with the transport.
        while isBackingBusy { turn() }
    }

    private var isBackingBusy: Bool {
        (0..<configuration.depth).contains {
            let state = requests.state(Tag(UInt16($0)))
            return state == .backing || state == .asking
        }
    }

    /// One wait and everything it brought.
    @inline(__always)
    mutating func turn() {
        shared.offline(configuration.queue)
        transport.wait(until: nextDeadline)
        shared.online(configuration.queue)
        while let event = transport.nextEvent() {
            switch event {
            case .fetched(let tag): serve(tag)
            case .backing(let tag, let result): backingFinished(tag, result)
            case .aborted(let tag): aborted(tag)
            case .wakeup: readMessages()
            }
        }
        while let tag = timers.popDue(at: transport.now) { timerFired(tag) }
        if script.nextTimer != nil { runTimers() }
        if unsafe us_script_wants_release(script.handle) { releaseForScript() }
    }

    /// Faults happen, and the script is asked.
    @inline(__always)
    var isArmed: Bool { !isDraining && control.armed.load(ordering: .relaxed) }

    // MARK: One IO

    /// Takes a request out of the driver's hands and decides about it.
    @inline(__always)
    private mutating func serve(_ tag: Tag) {
        let desc = transport.desc(tag)
        let request = unsafe requests[tag]
        precondition(unsafe request.pointee.state == .withDriver)
        sequence &+= 1
        inFlight &+= 1
        unsafe request.pointee.state = .serving
        unsafe request.pointee.io.op = desc.opCode
        unsafe request.pointee.io.flags = desc.flags.rawValue
        unsafe request.pointee.io.offset = desc.offsetBytes
        unsafe request.pointee.io.length = desc.lengthBytes
        unsafe request.pointee.io.sequence = sequence
        unsafe request.pointee.arrivedAt = transport.now
        unsafe request.pointee.decision = us_decision()
        unsafe request.pointee.heals = 0
        unsafe request.pointee.partFrom = 0
        unsafe request.pointee.partTo = desc.lengthBytes
        unsafe request.pointee.failsWith = 0
        unsafe request.pointee.hasEffects = false
        unsafe request.pointee.isInPieces = false
        guard let op = IOOp(rawValue: desc.opCode) else {
            control.counters.add(.otherOp)
            return refuse(tag)
        }
        control.counters.add(QueueCounters.Kind(op))
        if isPaused { return park(tag) }
        unsafe consider(tag, op, request)
    }

    /// Goes on with a request that was parked.
    mutating func consider(_ tag: Tag) {
        let request = unsafe requests[tag]
        guard let op = unsafe IOOp(rawValue: request.pointee.io.op) else {
            preconditionFailure("an unknown op was parked")
        }
        unsafe consider(tag, op, request)
    }

    @inline(__always)
    private mutating func consider(
        _ tag: Tag,
        _ op: IOOp,
        _ request: UnsafeMutablePointer<Request>
    ) {
        let isArmed = isArmed
        if isArmed || configuration.isTarget {
            guard unsafe decide(tag, op, request, isArmed: isArmed) else { return }
        }
        advance(tag)
    }

    /// An operation that this program does not know, as no driver should send one.
    @inline(never)
    private mutating func refuse(_ tag: Tag) {
        let errno = Errno.notSupported.rawValue
        record(.unsupported, tag, errno: errno)
        unasked(.unsupported, tag, errno: errno, ": an unknown operation")
        complete(tag, -errno)
    }

    /// The device is paused: the request waits, undecided.
    @inline(never)
    private mutating func park(_ tag: Tag) {
        unsafe requests[tag].pointee.state = .paused
        control.counters.add(.heldNow)
    }

    /// Rules first; the script's handler only when none settled the outcome.
    ///
    /// - Parameter isArmed: false: the handler is asked only for where data is, see
    ///   ``QueueConfiguration/isTarget``.
    /// - Returns: false when the handler waits for data first.
    @inline(__always)
    private mutating func decide(
        _ tag: Tag,
        _ op: IOOp,
        _ request: UnsafeMutablePointer<Request>,
        isArmed: Bool
    ) -> Bool {
        if isArmed, rules.count != 0 {
            let isSettled = unsafe rules.match(
                requests.io(tag),
                op: op,
                now: transport.now,
                inFlight: inFlight,
                data: op == .write ? UnsafeRawPointer(transport.buffer(tag)) : nil,
                decision: &request.pointee.decision,
                legs: requests.legs(tag),
                heals: &request.pointee.heals
            )
            if isSettled { return true }
        }
        guard script.handlers & op.bit != 0 else { return true }
        var verdict = us_decision()
        unsafe request.pointee.io.live = 1
        let status = unsafe script.decide(
            UnsafePointer(requests.io(tag)),
            now: rules.deviceTime(transport.now),
            decision: &verdict,
            legs: requests.legs(tag)
        )
        if status == US_WAITS {
            unsafe request.pointee.questions = 0
            return ask(tag)
        }
        take(verdict, status, tag)
        return true
    }

    /// What came of the tag's handler.
    @inline(__always)
    mutating func take(_ verdict: us_decision, _ status: us_status, _ tag: Tag) {
        guard status == US_OK else { return handlerFailed(tag, status) }
        let request = unsafe requests[tag]
        var verdict = verdict
        if !verdict.isNothing { recordVerdict(tag, verdict) }
        let (delay, overflow) = unsafe verdict.delay_ns.addingReportingOverflow(
            request.pointee.decision.delay_ns
        )
        verdict.delay_ns = overflow ? .max : delay
        if unsafe hasEffects(request) || request.pointee.decision.ignores_fua != 0 {
            unsafe us_decision_inherit(&verdict, &request.pointee.decision)
        }
        unsafe request.pointee.decision = verdict
    }

    @inline(never)
    private mutating func handlerFailed(_ tag: Tag, _ status: us_status) {
        scriptFailed(tag, script.lastError(status))
    }

    /// The handler raised: the device goes on, the policy says what the IO gets.
    ///
    /// Off the usual path.
    @inline(never)
    mutating func scriptFailed(_ tag: Tag, _ error: ScriptError) {
        control.counters.add(.scriptErrors)
        let request = unsafe requests[tag]
        unsafe report.scriptFailed(error, IOSummary(request.pointee.io))
        guard configuration.onError != .pass else { return record(.scriptError, tag) }
        unsafe request.pointee.decision.outcome = UInt8(US_OUTCOME_FAIL.rawValue)
        unsafe request.pointee.decision.error = Errno.ioError.rawValue
        record(.scriptError, tag)
        if configuration.onError == .stop { report.wantsStop() }
    }

    /// Goes on with a decided request: first its delay, then its hang, then its outcome.
    @inline(__always)
    mutating func advance(_ tag: Tag) {
        let request = unsafe requests[tag]
        if unsafe request.pointee.decision.delay_ns | UInt64(request.pointee.decision.hangs) != 0 {
            if unsafe isPostponed(tag, request) { return }
        }
        finish(tag)
    }

    @inline(never)
    private mutating func isPostponed(
        _ tag: Tag,
        _ request: UnsafeMutablePointer<Request>
    ) -> Bool {
        // A device that comes or goes would wait, too.
        guard isArmed else { return false }
        let delay = unsafe request.pointee.decision.delay_ns
        if delay != 0 {
            unsafe request.pointee.decision.delay_ns = 0
            unsafe request.pointee.state = .delayed
            control.counters.add(.delayed)
            control.counters.add(.delayedNow)
            timers.push(tag, deadline: transport.now.advanced(byNanoseconds: delay))
            return true
        }
        guard unsafe request.pointee.decision.hangs != 0 else { return false }
        unsafe request.pointee.decision.hangs = 0
        unsafe request.pointee.state = .held
        control.counters.add(.hung)
        control.counters.add(.heldNow)
        let limit = unsafe request.pointee.decision.hang_ns
        if limit != 0 { timers.push(tag, deadline: transport.now.advanced(byNanoseconds: limit)) }
        return true
    }

    private mutating func timerFired(_ tag: Tag) {
        switch requests.state(tag) {
        case .delayed: letGo(tag, .delayedNow)
        case .held: letGo(tag, .heldNow)
        default: preconditionFailure("a deadline for a tag that does not wait")
        }
        advance(tag)
    }

    /// A tag that waited is served again.
    mutating func letGo(_ tag: Tag, _ waiting: QueueCounters.Kind) {
        timers.remove(tag)
        unsafe requests[tag].pointee.state = .serving
        control.counters.subtract(waiting)
    }

    /// The one place where an outcome becomes something that happens.
    @inline(__always)
    private mutating func finish(_ tag: Tag) {
        let request = unsafe requests[tag]
        let length = unsafe request.pointee.io.length
        if unsafe hasEffects(request), startEffects(tag) { return }
        switch unsafe UInt32(request.pointee.decision.outcome) {
        case US_OUTCOME_FAIL.rawValue:
            control.counters.add(.failed)
            unsafe complete(tag, -request.pointee.decision.error)
        case US_OUTCOME_DROP.rawValue:
            control.counters.add(.dropped)
            unsafe request.pointee.heals = 0
            complete(tag, Int32(clamping: length))
        case US_OUTCOME_ZERO.rawValue:
            control.counters.add(.zeroed)
            unsafe zero(tag, request)
        case US_OUTCOME_REDIRECT.rawValue:
            control.counters.add(.redirected)
            perform(tag)
        case US_OUTCOME_DONE.rawValue:
            control.counters.add(.answered)
            complete(tag, Int32(clamping: length))
        default:
            perform(tag)
        }
    }

    private mutating func zero(_ tag: Tag, _ request: UnsafeMutablePointer<Request>) {
        let length = unsafe Int(request.pointee.io.length)
        unsafe transport.buffer(tag).initializeMemory(as: UInt8.self, repeating: 0, count: length)
        if unsafe request.pointee.io.op == IOOp.read.rawValue {
            complete(tag, Int32(clamping: length))
        } else {
            perform(tag)
        }
    }

    /// Commits the request: a full count or a negative errno, never anything between.
    @inline(__always)
    mutating func complete(_ tag: Tag, _ result: Int32) {
        let request = unsafe requests[tag]
        precondition(unsafe request.pointee.state == .serving || request.pointee.state == .backing)
        let result = unsafe request.pointee.hasEffects ? endEffects(tag, result) : result
        if unsafe request.pointee.heals != 0, result >= 0 { heal(tag) }
        inFlight &-= 1
        unsafe count(request, result)
        unsafe request.pointee.io.live = 0
        unsafe request.pointee.state = .withDriver
        transport.commitAndFetch(tag, result: result)
    }

    // MARK: The way out

    private mutating func aborted(_ tag: Tag) {
        precondition(requests.state(tag) == .withDriver)
        unsafe requests[tag].pointee.state = .aborted
        abortedTags += 1
    }

    /// Leaves the loop at the end of the turn.
    mutating func quit() { hasQuit = true }

    /// From now on nothing is decided and nothing is held.
    mutating func beginDraining() {
        isDraining = true
        isPaused = false
    }
}
