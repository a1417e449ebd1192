import SystemPackage

/// What the queues of one simulated device have in common: the clock, the application, the files, and how far the
/// device is.
///
/// Each queue has a ``SimulatedTransport`` of its own, which refers to this. All of them work on one thread, by turns
/// (``SimulatedDevice/turn()``); all chance comes from one seed, so a run can be repeated.
@safe
final class SimulatedMachine {
    // Safety: one instant, freed in deinit; whoever looks at it, a queue's trace, keeps this.
    let clock = UnsafeMutablePointer<Instant>.allocate(capacity: 1)
    /// Stands still while a queue works.
    var now: Instant {
        get { unsafe clock.pointee }
        set { unsafe clock.pointee = newValue }
    }
    var application: SimulatedApplication
    var files: [SimulatedFile]
    /// What a power loss takes from the stores that are memory, by number of the store.
    let images: [Int: VolatileImage]
    /// Of the queues, by number.
    let controls: [QueueControl]
    var random: SplitMix64
    var copies = SimulatedCopies()

    /// Requests on their way to a queue, or with one.
    var inFlight = 0
    /// How many requests were held when nothing else could happen any more; nil: that did not
    /// happen.
    private(set) var heldForEver: Int?
    /// True when the last wait had nothing to wait for: the requests in flight will never end by themselves.
    var isStuck = false
    /// No request is made any more.
    var isStopping = false
    /// Something besides the deadlines of queues is to come, on some queue.
    var hasEvents = false
    /// Number of consecutive waits that ended by nothing but the queues' own deadlines.
    private var timersAlone = 0
    /// So many such waits mean that requests are held for ever, while the script's timers go on.
    private static let timersAloneMax = 2_000_000

    /// Steps of the workload that are still to come, and the time before which nothing more of it is done.
    private var steps: [Step] = []
    private(set) var notBefore = Instant(nanoseconds: 0)

    /// A word that the workload says at some time of the run.
    private struct Step {
        let at: Instant
        let origin: String
        let words: [String]
        let request: QueueRequest
    }

    init(
        application: SimulatedApplication,
        files: [SimulatedFile],
        images: [Int: VolatileImage] = [:],
        controls: [QueueControl],
        seed: UInt64
    ) {
        self.application = application
        self.files = files
        self.images = images
        self.controls = controls
        random = SplitMix64(seed: seed, stream: 3)
        unsafe clock.initialize(to: Instant(nanoseconds: 0))
    }

    deinit { unsafe clock.deallocate() }

    var queues: Int { controls.count }

    /// Every request that was made is over, and the workload has nothing more to say.
    var isQuiet: Bool { inFlight == 0 && steps.isEmpty }

    /// Nothing is in flight and nothing will be: the driver takes the tags back.
    var isOver: Bool { isQuiet && !application.isOpen }

    // MARK: The workload's words

    /// What the workload does before its next request.
    func takeSteps() {
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

    /// When the first word is due; the first queue waits for it.
    var nextStep: Instant? { steps.first?.at }

    /// Tells the queues what is due.
    func sayWhatIsDue() {
        while let step = steps.first, step.at <= now {
            steps.removeFirst()
            let queues = SimulatedQueues(queues: controls)
            application.said.append(
                SaidWord(
                    origin: step.origin,
                    words: step.words,
                    request: step.request,
                    answer: Dispatcher(queues).begin(.queue(step.request))
                )
            )
        }
    }

    // MARK: Time

    /// A queue waits until then.
    ///
    /// - Returns: false when it has done nothing but wait for its own deadlines for very long.
    func pass(to next: Instant, isForEvent: Bool) -> Bool {
        if isForEvent || hasEvents { timersAlone = 0 }
        timersAlone += 1
        guard timersAlone < Self.timersAloneMax else { return false }
        now = max(now, next)
        return true
    }

    /// Nothing will ever happen by itself: the administrator deletes the device, and the server
    /// drains its queues.
    func stopWhatIsHeld() {
        timersAlone = 0
        isStuck = true
        if application.isOpen { return }
        precondition(heldForEver == nil, "requests are held by a queue that was told to drain")
        heldForEver = inFlight
        isStopping = true
        for control in controls { control.send(.drain) }
    }

    /// The driver copies the data of a write to the tag's buffer; 0 or an errno.
    func pull(_ tag: Tag, _ bytes: Int, _ buffers: SimulatedBuffers) -> Int32 {
        let errno = copies.pull()
        if errno == 0 { buffers.pull(tag, bytes: bytes) }
        return errno
    }

    // MARK: Power

    /// The power goes, and comes back: what was not made durable is as it was on the media.
    ///
    /// - Returns: where that made a difference, in order.
    func losePower() -> [Range<UInt64>] {
        let all = images.values + files.compactMap(\.image)
        return all.flatMap { $0.losePower() }.sorted { $0.lowerBound < $1.lowerBound }
    }
}

extension SimulatedTransport {
    var traceClock: TraceClock { unsafe .simulated(machine.clock) }
}
