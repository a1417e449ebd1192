import CLua
import Synchronization
import SystemPackage

/// Serves one hardware queue: fetch, decide, carry out, commit.
///
/// The same code runs on the driver and in the simulator.
///
/// Created, used and destroyed on one thread, together with its transport, its Lua state and its tables. Nothing
/// here blocks, allocates, locks or throws per IO: a delay is an entry in the timer heap, a hang is
/// a state of the tag. The exceptions are what a script asks for: `once`, `heal` and edits of sets or dicts take the
/// lock of the shared objects and may allocate.
///
///     wait ─► nextEvent ─► serve ─► decide ─► advance ─► finish ─► carryOut ─► end ─► complete ─► commit
///                                               │  ▲                 │  ▲
///                                            timer, release       operations
@safe
struct Queue<Transport: QueueTransport & ~Copyable>: ~Copyable {
    // Safety: pointers that are handed to C come from `requests` and `transport`, which live as long as the queue.
    var transport: Transport
    var script: Script
    var rules: RuleSet
    var requests: RequestTable
    var timers: TimerHeap
    var configuration: QueueConfiguration
    let stores: StoreTable
    /// Whose data the script looks at or changes, or the one before it did for IOs that are still under way.
    var dataNeeds: DataNeeds
    let shared: SharedObjects
    let control: QueueControl
    /// Those of `control`.
    let times: IOTimes.Writer
    let report: any QueueReport
    var live: LiveControl
    /// The script that the next reload changes over to, and the reload it belongs to.
    var prepared: LoadedScript?
    var reload: ScriptReload?

    /// Keeps what ``RequestTable/trace`` writes to; nil: nobody traces.
    var traceRing: TraceRing?
    /// A plain IO is one transfer that nobody wants to see, of data that is there, so it needs no plan.
    var isDirect: Bool

    private var sequence: UInt64 = 0
    private var abortedTags = 0
    private(set) var isDraining = false
    /// Requests that arrive are held before anything is decided about them.
    var isPaused = false
    private var hasQuit = false
    /// Scratch list of the tags that are released together, and the random stream for a random order.
    var held: [Tag] = []
    var shuffle: SplitMix64

    init(
        transport: consuming Transport,
        loaded: consuming LoadedScript,
        configuration: QueueConfiguration,
        shared: SharedObjects,
        control: QueueControl,
        report: any QueueReport
    ) throws(ScriptError) {
        self.transport = transport
        script = loaded.script
        rules = loaded.rules
        self.configuration = configuration
        stores = StoreTable(configuration.stores)
        let copies = self.transport.copiesOnDemand
        isDirect = configuration.stores.count == 1 && !copies
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
        requests = RequestTable(
            depth: configuration.depth,
            queue: configuration.queue,
            counters: control.counters,
            hasData: !self.transport.copiesOnDemand
        )
        timers = TimerHeap(depth: configuration.depth)
        held.reserveCapacity(configuration.depth)
        // No rule has this stream.
        shuffle = SplitMix64(
            seed: configuration.seed,
            queue: UInt32(configuration.queue.rawValue),
            stream: .max
        )
        dataNeeds = Self.dataNeeds(self.rules, self.script)
        try self.rules.attach(shared, self.script, deviceBytes: configuration.sizeBytes)
        try bind(self.script)
    }

    /// Serves until the driver has taken every tag back, or ``QueueMessage/quit``.
    mutating func run() { while !isOver { turn() } }

    /// There is nothing more to serve.
    ///
    /// As long as a transfer is under way the kernel may be writing into a tag's buffer, which goes with the transport.
    @inline(__always)
    var isOver: Bool { (hasQuit || abortedTags >= configuration.depth) && !isTransferring }

    @inline(never)
    private var isTransferring: Bool {
        (0..<configuration.depth).contains {
            let state = requests[Tag(UInt16($0))].state
            return state == .transferring || state == .asking
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
            case .operation(let tag, let transfer, let result):
                operationEnded(tag, transfer: transfer, result)
            case .notLent(let tag): loanRefused(tag)
            case .aborted(let tag): aborted(tag)
            case .wakeup: readMessages()
            }
        }
        while let tag = timers.popDue(at: transport.now) { timerFired(tag) }
        if script.nextTimer != nil { runTimers() }
        if unsafe us_script_wants_release(script.handle) { releaseForScript() }
    }

    /// True while faults happen and handlers are asked.
    @inline(__always)
    var isArmed: Bool { !isDraining && control.armed.load(ordering: .relaxed) }

    // MARK: One IO

    /// Accepts the request that arrived in the tag and decides about it.
    @inline(__always)
    private mutating func serve(_ tag: Tag) {
        let desc = transport.desc(tag)
        sequence &+= 1
        let request = requests[tag]
        request.io.op = desc.opCode
        request.io.flags = desc.flags.rawValue
        request.io.offset = desc.offsetBytes
        request.io.length = desc.lengthBytes
        request.io.sequence = sequence
        request.arrivedAt = transport.now
        request.decision = us_decision()
        request.heals = 0
        request.endsWith = 0
        request.waited = .forNothing
        requests.move(tag, from: .withDriver, to: .serving)
        guard let op = IOOp(rawValue: desc.opCode) else {
            control.counters.add(.otherOp)
            return refuse(tag)
        }
        request.op = op
        control.counters.add(arrived: op)
        if isPaused { return requests.move(tag, from: .serving, to: .paused) }
        decide(tag)
    }

    /// Decides about a request that has just come, or that was parked, and goes on with it: rules first, the script's
    /// handler only when none settled the outcome.
    @inline(__always)
    mutating func decide(_ tag: Tag) {
        let isArmed = isArmed
        let isSettled = isArmed && rules.count != 0 && settleByRules(tag)
        if !isSettled, isArmed || configuration.alwaysAsks,
            script.handlers & requests[tag].op.bit != 0
        {
            guard askHandler(tag) else { return }
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

    /// - Returns: true when a rule settled the outcome.
    @inline(__always)
    private mutating func settleByRules(_ tag: Tag) -> Bool {
        let request = requests[tag]
        let isCompared = dataNeeds.compared & request.op.bit != 0
        if isCompared, !pullData(tag) { return endsWithCopyError(tag) }
        return unsafe rules.match(
            requests.io(tag),
            op: request.op,
            now: transport.now,
            inFlight: requests.lifecycle.inFlight,
            data: isCompared ? UnsafeRawPointer(transport.data(tag).bytes) : nil,
            decision: &request.decision,
            segments: requests.segments(tag),
            heals: &request.heals
        )
    }

    /// - Returns: false when the handler waits for data first.
    @inline(__always)
    private mutating func askHandler(_ tag: Tag) -> Bool {
        let request = requests[tag]
        var verdict = us_decision()
        request.io.live = 1
        let status = unsafe script.decide(
            UnsafePointer(requests.io(tag)),
            now: rules.deviceTime(transport.now),
            decision: &verdict,
            segments: requests.segments(tag)
        )
        if status == US_WAITS {
            request.questions = 0
            return ask(tag)
        }
        take(verdict, status, tag)
        return true
    }

    /// The tag's IO is decided: it fails, as its data is not to be had.
    @inline(never)
    private func endsWithCopyError(_ tag: Tag) -> Bool {
        requests[tag].endsWith = Self.copyErrno
        return true
    }

    /// Adopts the verdict of the tag's handler, or handles its failure.
    @inline(__always)
    mutating func take(_ verdict: us_decision, _ status: us_status, _ tag: Tag) {
        guard requests[tag].io.pull_error == 0 else { return pullOfHandlerFailed(tag) }
        guard status == US_OK else { return handlerRaised(tag, status) }
        var verdict = verdict
        if !verdict.isNothing { recordVerdict(tag, verdict) }
        let request = requests[tag]
        verdict.delay_ns = us_time_sum(verdict.delay_ns, request.decision.delay_ns)
        if request.decision.changesData {
            unsafe us_decision_inherit(&verdict, &request.decision)
        }
        request.decision = verdict
    }

    /// Apart from the usual path, which has no text to count references of.
    @inline(never)
    private mutating func handlerRaised(_ tag: Tag, _ status: us_status) {
        scriptFailed(tag, script.lastError(status))
    }

    /// The handler raised: the device goes on, the policy says what the IO gets.
    ///
    /// Off the usual path.
    @inline(never)
    mutating func scriptFailed(_ tag: Tag, _ error: ScriptError) {
        control.counters.add(.scriptErrors)
        report.scriptFailed(error, IOSummary(requests[tag].io))
        guard configuration.onError != .pass else { return recordScriptError(tag) }
        requests[tag].decision.outcome = UInt8(US_OUTCOME_FAIL.rawValue)
        requests[tag].decision.error = Errno.ioError.rawValue
        recordScriptError(tag)
        if configuration.onError == .stop { report.wantsStop() }
    }

    /// Goes on with a decided request: first its delay, then its hang, then its outcome.
    @inline(__always)
    mutating func advance(_ tag: Tag) {
        let request = requests[tag]
        if request.decision.delay_ns | UInt64(request.decision.hangs) != 0 {
            if isPostponed(tag) { return }
        }
        finish(tag)
    }

    @inline(never)
    private mutating func isPostponed(_ tag: Tag) -> Bool {
        // Not while the device starts or drains: START and STOP would wait for the IO.
        guard isArmed else { return false }
        if requests.isTraced { noteDecision(tag) }
        let request = requests[tag]
        let delay = request.decision.delay_ns
        if delay != 0, request.waited < .forDelay {
            request.waited = .forDelay
            requests.move(tag, from: .serving, to: .delayed)
            timers.push(tag, deadline: transport.now.advanced(byNanoseconds: delay))
            return true
        }
        guard request.decision.hangs != 0, request.waited < .forHang else { return false }
        request.waited = .forHang
        requests.move(tag, from: .serving, to: .held)
        noteHang(tag, begins: true)
        let limit = request.decision.hang_ns
        if limit != 0 { timers.push(tag, deadline: transport.now.advanced(byNanoseconds: limit)) }
        return true
    }

    /// Has the next server of the device know of it: it may get the IO again.
    private func noteHang(_ tag: Tag, begins: Bool) {
        guard let rule = RuleSet.ruleOfHang(requests[tag].decision.hangs) else { return }
        rules.counters.hold(rule, begins)
    }

    private mutating func timerFired(_ tag: Tag) {
        letGo(tag)
        advance(tag)
    }

    /// Ends the wait of a tag that is delayed, held or paused.
    mutating func letGo(_ tag: Tag) {
        timers.remove(tag)
        switch requests[tag].state {
        case .delayed: requests.move(tag, from: .delayed, to: .serving)
        case .held:
            requests.move(tag, from: .held, to: .serving)
            noteHang(tag, begins: false)
        case .paused: requests.move(tag, from: .paused, to: .serving)
        default: preconditionFailure("a tag is let go that does not wait")
        }
    }

    // MARK: The way out

    @inline(never)
    private mutating func aborted(_ tag: Tag) {
        requests.move(tag, from: .withDriver, to: .aborted)
        abortedTags += 1
        control.hasLostTag.store(true, ordering: .relaxed)
    }

    /// Leaves the loop at the end of the turn.
    mutating func quit() { hasQuit = true }

    /// Stops deciding and holding, for good.
    mutating func beginDraining() {
        isDraining = true
        isPaused = false
    }
}
