import CLua

/// What a queue knows of the request in one tag.
struct Request {
    /// Where a tag stands.
    ///
    /// Each transition asserts the state it leaves.
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
        /// Its handler waits for data of a backing.
        case asking
        /// A file operation is under way.
        case backing
        /// The driver took it back for good.
        case aborted
    }

    /// The IO as the script sees it.
    var io = us_io()
    /// When it came, on the queue's clock.
    var arrivedAt = Instant(nanoseconds: 0)
    /// What is still to happen to it.
    var decision = us_decision()
    /// Rules whose range the IO heals when it succeeds.
    var heals: UInt64 = 0
    /// The part of the IO that is to be done: all of it, but for a write that is stored in part.
    var partFrom: UInt64 = 0
    var partTo: UInt64 = 0
    /// The step under way: bytes up to `doneBytes` of the IO are done, up to `endBytes` they are to be.
    var doneBytes: UInt64 = 0
    var endBytes: UInt64 = 0
    /// Where the IO's first byte would be in the step's backing; modulo 2^64.
    var place: UInt64 = 0
    /// Number of the step's backing.
    var backing: UInt32 = 0
    /// How often its handler has read so far.
    var questions: UInt16 = 0
    /// Its handler waited for data when another script took over; that one decides once the data is there.
    var isOrphaned = false
    /// The next step, for an IO that has several.
    var nextStep: UInt8 = 0
    /// The errno of a write that fails although (a part of) it was stored; 0: it does not.
    var failsWith: Int32 = 0
    /// Its data was or is to be changed, or stored in part.
    var hasEffects = false
    /// Its legs are what is stored of it, at its own place.
    var isInPieces = false
    var state = State.withDriver
    /// How far down its list of fallbacks a write-zeroes is.
    var zeroing = FileStore.Zeroing.zeroRange
}

/// One ``Request`` a tag, at fixed addresses.
///
/// Queue thread only.
@safe
struct RequestTable: ~Copyable {
    // Safety: `depth` elements each, freed in deinit; tags are checked against it.
    private let requests: UnsafeMutablePointer<Request>
    /// ``legsEach`` a request.
    private let legs: UnsafeMutablePointer<us_leg>
    /// What handlers change in the data.
    private let patches: UnsafeMutablePointer<us_patches>
    let depth: Int
    private static let legsEach = Int(US_LEGS_MAX)

    init(depth: Int, queue: QueueID) {
        self.depth = depth
        unsafe requests = .allocate(capacity: depth)
        unsafe requests.initialize(repeating: Request(), count: depth)
        unsafe legs = .allocate(capacity: depth * Self.legsEach)
        unsafe legs.initialize(repeating: us_leg(), count: depth * Self.legsEach)
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
    }

    /// The tag's request.
    ///
    /// The pointer stays valid while the table lives.
    @inline(__always)
    subscript(_ tag: Tag) -> UnsafeMutablePointer<Request> {
        precondition(tag.index < depth)
        return unsafe requests + tag.index
    }

    /// The part of a request that the script's `io` refers to.
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

    func state(_ tag: Tag) -> Request.State { unsafe self[tag].pointee.state }
}
