import CLua

/// The state of the request in one tag.
struct Request {
    /// The states of a tag; ``RequestTable/move(_:from:to:)`` is the only way from one to another.
    enum State: UInt8 {
        /// The driver has the tag; there is no request in it.
        case withDriver
        /// Being decided or completed, in one go.
        case serving
        /// Held before anything is decided about it: the device is paused.
        case paused
        /// Waits for a delay to pass.
        case delayed
        /// Held by a hang.
        case held
        /// Its handler waits for data of a store.
        case asking
        /// Transfers of its plan are under way.
        case transferring
        /// The driver took it back for good.
        case aborted
    }

    /// The waits of a decision that are over.
    enum Waited: UInt8, Comparable {
        case forNothing
        case forDelay
        case forHang
        static func < (a: Waited, b: Waited) -> Bool { a.rawValue < b.rawValue }
    }

    /// The IO as the script sees it.
    var io = us_io()
    /// The operation, once `io.op` is known to be one.
    var op = IOOp.read
    /// Time of arrival, on the queue's clock.
    var arrivedAt = Instant(nanoseconds: 0)
    /// The decision of rules and handler; made before anything happens, and never changed afterwards.
    var decision = us_decision()
    /// The errno that replaces the decided outcome, because the request was released with it; 0: none.
    var endsWith: Int32 = 0
    /// Mask of the rules whose range the IO heals when it succeeds.
    var heals: UInt64 = 0
    var plan = IOPlan()
    /// The transfers work on the pages of the request; see ``QueueTransport/lendsData``.
    var isLent = false
    /// They could not be lent after all; the plan begins anew, with copies, when what had begun is over.
    var isLoanRefused = false
    /// Number of reads by its handler so far.
    var questions: UInt16 = 0
    /// True when a reload came while the handler waited for data: the new script decides once the data is there.
    var isOrphaned = false
    var waited = Waited.forNothing
    fileprivate(set) var state = State.withDriver

    /// The IO is carried out as it is, at its own offset.
    @inline(__always)
    var isPlain: Bool {
        decision.outcome == 0 && !decision.changesData && endsWith == 0
    }
}

/// Access to one request of the table.
@safe @dynamicMemberLookup
struct RequestHandle {
    // Safety: the table outlives its handles, which are made for a few lines of code.
    private let request: UnsafeMutablePointer<Request>

    @inline(__always)
    fileprivate init(_ request: UnsafeMutablePointer<Request>) { unsafe self.request = request }

    @inline(__always)
    subscript<Value>(dynamicMember member: WritableKeyPath<Request, Value>) -> Value {
        _read { yield unsafe request.pointee[keyPath: member] }
        nonmutating _modify { yield unsafe &request.pointee[keyPath: member] }
    }

    @inline(__always)
    subscript<Value>(dynamicMember member: KeyPath<Request, Value>) -> Value {
        _read { yield unsafe request.pointee[keyPath: member] }
    }
}

/// The ``Request`` of each tag and the buffers that belong to it, at fixed addresses.
///
/// Queue thread only.
@safe
struct RequestTable: ~Copyable {
    // Safety: `depth` elements each, or so many for each, freed in deinit; tags are checked against it.
    private let requests: UnsafeMutablePointer<Request>
    /// ``segmentsEach`` a request.
    private let segments: UnsafeMutablePointer<us_segment>
    private let patches: UnsafeMutablePointer<us_patches>
    /// ``IOPlan/transfersMax`` a request.
    private let transfers: UnsafeMutablePointer<Transfer>
    private let depth: Int
    private(set) var lifecycle: RequestLifecycle
    /// Somebody traces; looked at by each move, beside what a move writes anyway.
    private(set) var isTraced = false
    /// Where steps are noted; nil: nobody traces.
    private(set) var trace: QueueTrace?

    private static let segmentsEach = Int(US_SEGMENTS_MAX)
    private static let transfersEach = IOPlan.transfersMax

    /// - Parameter hasData: the data of a write is there when it arrives.
    init(depth: Int, queue: QueueID, counters: QueueCounters, hasData: Bool = true) {
        self.depth = depth
        lifecycle = RequestLifecycle(counters)
        unsafe requests = .allocate(capacity: depth)
        unsafe requests.initialize(repeating: Request(), count: depth)
        unsafe segments = .allocate(capacity: depth * Self.segmentsEach)
        unsafe segments.initialize(repeating: us_segment(), count: depth * Self.segmentsEach)
        unsafe transfers = .allocate(capacity: depth * Self.transfersEach)
        unsafe patches = .allocate(capacity: depth)
        // The rest is read only as far as the count says.
        for index in 0..<depth {
            unsafe patches[index].sequence = 0
            unsafe patches[index].count = 0
        }
        for index in 0..<depth {
            unsafe requests[index].io.tag = UInt16(index)
            unsafe requests[index].io.queue = queue.rawValue
            unsafe requests[index].io.has_data = hasData ? 1 : 0
        }
    }

    deinit {
        unsafe requests.deallocate()
        unsafe segments.deallocate()
        unsafe patches.deallocate()
        unsafe transfers.deallocate()
    }

    /// The tag's request; valid while the table lives.
    @inline(__always)
    subscript(_ tag: Tag) -> RequestHandle {
        precondition(tag.index < depth)
        return unsafe RequestHandle(requests + tag.index)
    }

    /// A transfer of the tag's plan.
    @inline(__always)
    subscript(transfer tag: Tag, _ index: Int) -> Transfer {
        _read {
            precondition(tag.index < depth && index < Self.transfersEach)
            yield unsafe transfers[tag.index * Self.transfersEach + index]
        }
        nonmutating _modify {
            precondition(tag.index < depth && index < Self.transfersEach)
            yield unsafe &transfers[tag.index * Self.transfersEach + index]
        }
    }

    /// Moves a request from one state to another, and tells ``RequestLifecycle``, and the trace when there is one.
    ///
    /// - Parameter result: what is committed, of a move to ``Request/State/withDriver``.
    /// - Precondition: the request is in state `from`.
    @inline(__always)
    mutating func move(
        _ tag: Tag,
        from: Request.State,
        to: Request.State,
        result: Int32 = 0
    ) {
        let request = self[tag]
        precondition(request.state == from)
        request.state = to
        lifecycle.moved(from: from, to: to)
        if isTraced { note(tag, from: from, to: to, result: result) }
    }

    /// Notes the steps of requests there from now on; nil: no more.
    mutating func note(into trace: QueueTrace?) {
        self.trace = trace
        isTraced = trace != nil
    }

    // MARK: For C

    /// The fields of a request that the script's `io` refers to; valid while the table lives.
    @inline(__always)
    func io(_ tag: Tag) -> UnsafeMutablePointer<us_io> {
        precondition(tag.index < depth)
        // `io` is the first member, so the addresses agree; UAPILayoutTests holds it to that.
        return unsafe UnsafeMutableRawPointer(requests + tag.index).assumingMemoryBound(
            to: us_io.self
        )
    }

    /// Room for the segments of the tag's decision.
    @inline(__always)
    func segments(_ tag: Tag) -> UnsafeMutablePointer<us_segment> {
        precondition(tag.index < depth)
        return unsafe segments + tag.index * Self.segmentsEach
    }

    /// The changes to the data that the tag's handler asked for.
    @inline(__always)
    func patches(_ tag: Tag) -> UnsafeMutablePointer<us_patches> {
        precondition(tag.index < depth)
        return unsafe patches + tag.index
    }

    /// Room for the transfers of the tag's plan.
    func transfers(_ tag: Tag) -> UnsafeMutablePointer<Transfer> {
        precondition(tag.index < depth)
        return unsafe transfers + tag.index * Self.transfersEach
    }
}

/// Counters and gauges that follow from the moves of requests.
///
/// Callers pass the states as constants, so that an ordinary move costs one addition.
struct RequestLifecycle {
    private let counters: QueueCounters
    /// Requests between fetch and commit.
    private(set) var inFlight = 0

    init(_ counters: QueueCounters) { self.counters = counters }

    @inline(__always)
    mutating func moved(from: Request.State, to: Request.State) {
        switch from {
        case .withDriver where to == .serving: inFlight &+= 1
        case .delayed: counters.subtract(.delayedNow)
        case .held, .paused: counters.subtract(.heldNow)
        case .withDriver, .serving, .asking, .transferring, .aborted: break
        }
        switch to {
        case .withDriver: inFlight &-= 1
        case .delayed:
            counters.add(.delayed)
            counters.add(.delayedNow)
        case .held:
            counters.add(.hung)
            counters.add(.heldNow)
        case .paused: counters.add(.heldNow)
        case .serving, .asking, .transferring, .aborted: break
        }
    }
}
