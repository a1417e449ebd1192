import CLua

/// What a queue knows of the request in one tag.
struct Request {
    /// Where a tag stands; ``RequestTable/move(_:from:to:)`` is the only way from one to another.
    enum State: UInt8 {
        /// The driver's; no request is in it.
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

    /// How much of what was decided it has waited for.
    enum Waited: UInt8, Comparable {
        case forNothing
        case forDelay
        case forHang
        static func < (a: Waited, b: Waited) -> Bool { a.rawValue < b.rawValue }
    }

    /// The IO as the script sees it.
    var io = us_io()
    /// `io.op`, once it is known to be one.
    var op = IOOp.read
    /// When it came, on the queue's clock.
    var arrivedAt = Instant(nanoseconds: 0)
    /// What rules and handler decided; made before anything happens, and never changed after.
    var decision = us_decision()
    /// An errno that it ends with whatever was decided, for it was let go so; 0: none.
    var endsWith: Int32 = 0
    /// Rules whose range the IO heals when it succeeds.
    var heals: UInt64 = 0
    var plan = IOPlan()
    /// How often its handler has read so far.
    var questions: UInt16 = 0
    /// Its handler waited for data when another script took over; that one decides once the data is there.
    var isOrphaned = false
    var waited = Waited.forNothing
    fileprivate(set) var state = State.withDriver

    /// Whole, as it is, and to its own place.
    @inline(__always)
    var isPlain: Bool {
        decision.outcome == 0 && !decision.changesData && endsWith == 0
    }
}

/// One request of the table, in its place.
@safe @dynamicMemberLookup
struct RequestHandle {
    // Safety: a request of a table, which outlives the use of its handles: they are made for a few lines.
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

/// One ``Request`` a tag and the rooms that belong to it, at fixed addresses.
///
/// Queue thread only.
@safe
struct RequestTable: ~Copyable {
    // Safety: `depth` elements each, or so many for each, freed in deinit; tags are checked against it.
    private let requests: UnsafeMutablePointer<Request>
    /// ``legsEach`` a request.
    private let legs: UnsafeMutablePointer<us_leg>
    private let patches: UnsafeMutablePointer<us_patches>
    /// ``IOPlan/transfersMax`` a request.
    private let transfers: UnsafeMutablePointer<Transfer>
    private let depth: Int
    private(set) var lifecycle: RequestLifecycle

    private static let legsEach = Int(US_LEGS_MAX)
    private static let transfersEach = IOPlan.transfersMax

    init(depth: Int, queue: QueueID, counters: QueueCounters) {
        self.depth = depth
        lifecycle = RequestLifecycle(counters)
        unsafe requests = .allocate(capacity: depth)
        unsafe requests.initialize(repeating: Request(), count: depth)
        unsafe legs = .allocate(capacity: depth * Self.legsEach)
        unsafe legs.initialize(repeating: us_leg(), count: depth * Self.legsEach)
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
        }
    }

    deinit {
        unsafe requests.deallocate()
        unsafe legs.deallocate()
        unsafe patches.deallocate()
        unsafe transfers.deallocate()
    }

    /// The tag's request; valid while the table lives.
    @inline(__always)
    subscript(_ tag: Tag) -> RequestHandle {
        precondition(tag.index < depth)
        return unsafe RequestHandle(requests + tag.index)
    }

    /// A step of the tag's plan.
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

    /// Takes a request from one state to another, and tells of it.
    ///
    /// - Precondition: it is in the first one.
    @inline(__always)
    mutating func move(_ tag: Tag, from: Request.State, to: Request.State) {
        let request = self[tag]
        precondition(request.state == from)
        request.state = to
        lifecycle.moved(from: from, to: to)
    }

    // MARK: For C

    /// The part of a request that the script's `io` refers to; valid while the table lives.
    @inline(__always)
    func io(_ tag: Tag) -> UnsafeMutablePointer<us_io> {
        precondition(tag.index < depth)
        // `io` is the first member, so the addresses agree; UAPILayoutTests holds it to that.
        return unsafe UnsafeMutableRawPointer(requests + tag.index).assumingMemoryBound(
            to: us_io.self
        )
    }

    /// Room for the legs of the tag's decision.
    @inline(__always)
    func legs(_ tag: Tag) -> UnsafeMutablePointer<us_leg> {
        precondition(tag.index < depth)
        return unsafe legs + tag.index * Self.legsEach
    }

    /// What the tag's handler wants to be changed in the data.
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

/// What follows from where requests go: counts, and how many wait or are in flight at this moment.
///
/// The states are constants where they are told, so that telling of an ordinary move costs an addition.
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
