/// A driver that does nothing but hand out requests, so that the time measured is the queue's own.
///
/// Every tag is always in flight; each wait brings all of them back, as a busy device does. No
/// data, no checks, no random number per request: offsets come from a table made beforehand.
@safe
struct BenchmarkTransport: QueueTransport, ~Copyable {
    // Safety: arrays of `depth` elements, `places` of `placeCount`, one buffer; freed in deinit.
    private let descs: UnsafeMutablePointer<IODesc>
    private let committed: UnsafeMutablePointer<Tag>
    private let batch: UnsafeMutablePointer<Tag>
    private let places: UnsafeMutablePointer<IODesc>
    private let buffer: UnsafeMutableRawPointer
    private let depth: Int

    private(set) var now = Instant(nanoseconds: 0)
    private var committedCount = 0
    private var batchCount = 0
    private var batchNext = 0
    private var nextPlace = 0
    let scratchOffset: Int
    private var requestsLeft: Int
    /// Requests handed out.
    private(set) var served = 0
    private var isAborting = false
    private var isWoken = false
    private let control: QueueControl

    /// A power of two, so that going round is an AND.
    private static let placeCount = 4096

    /// - Parameters:
    ///   - requests: their number, rounded up to whole batches.
    ///   - control: of the queue that uses this transport.
    init(
        _ stream: RequestStream,
        depth: Int,
        requests: Int,
        maxIOBytes: Int,
        control: QueueControl
    ) {
        var stream = stream
        self.depth = depth
        self.control = control
        requestsLeft = requests
        unsafe descs = .allocate(capacity: depth)
        unsafe committed = .allocate(capacity: depth)
        unsafe batch = .allocate(capacity: depth)
        unsafe places = .allocate(capacity: Self.placeCount)
        scratchOffset = SystemPage.roundUp(maxIOBytes)
        unsafe buffer = .allocate(
            byteCount: scratchOffset + QueueScratch.bytes,
            alignment: SystemPage.bytes
        )
        let nothing = SimulatedRequest(op: .read, lengthBytes: 4096)
        for index in 0..<Self.placeCount {
            unsafe (places + index).initialize(to: (stream.next() ?? nothing).desc)
        }
        for index in 0..<depth {
            unsafe (descs + index).initialize(to: nothing.desc)
            unsafe (batch + index).initialize(to: Tag(UInt16(index)))
            unsafe (committed + index).initialize(to: Tag(UInt16(index)))
        }
        committedCount = depth
    }

    deinit {
        unsafe descs.deallocate()
        unsafe committed.deallocate()
        unsafe batch.deallocate()
        unsafe places.deallocate()
        unsafe buffer.deallocate()
    }

    @inline(__always)
    mutating func wait(until deadline: Instant?) {
        now = now.advanced(byNanoseconds: 10_000)
        batchNext = 0
        batchCount = committedCount
        committedCount = 0
        if batchCount == 0 { return waitForNothing(until: deadline) }
        isAborting = requestsLeft <= 0
        requestsLeft -= batchCount
        if !isAborting { served += batchCount }
        for index in 0..<batchCount {
            let tag = unsafe committed[index]
            unsafe batch[index] = tag
            unsafe descs[tag.index] = places[nextPlace]
            nextPlace = (nextPlace + 1) & (Self.placeCount - 1)
        }
    }

    /// Every request is delayed or held: time passes, or the device is stopped.
    @inline(never)
    private mutating func waitForNothing(until deadline: Instant?) {
        if let deadline {
            now = max(now, deadline)
        } else {
            requestsLeft = 0
            control.send(.drain)
            isWoken = true
        }
    }

    @inline(__always)
    mutating func nextEvent() -> QueueEvent? {
        guard batchNext < batchCount else { return isWoken ? wakeup() : nil }
        let tag = unsafe batch[batchNext]
        batchNext += 1
        return isAborting ? .aborted(tag) : .fetched(tag)
    }

    @inline(never)
    private mutating func wakeup() -> QueueEvent {
        isWoken = false
        return .wakeup
    }

    @inline(__always)
    func desc(_ tag: Tag) -> IODesc {
        precondition(tag.index < depth)
        return unsafe descs[tag.index]
    }

    @inline(__always)
    func data(_ tag: Tag) -> IOData { unsafe .mapped(buffer) }

    @inline(__always)
    mutating func commit(_ tag: Tag, _ commit: Commit) {
        precondition(committedCount < depth)
        unsafe committed[committedCount] = tag
        committedCount += 1
    }

    /// Apart, so that its end is not counted among what an IO costs.
    @inline(never)
    mutating func submit(_ operation: FileOperation, for tag: Tag, transfer: Int) {
        preconditionFailure("a benchmark has no file")
    }

    /// What the transport costs without a queue: every request is committed as it comes.
    @inline(never)
    mutating func runAlone() {
        var aborted = 0
        while aborted < depth {
            wait(until: nil)
            while let event = nextEvent() {
                switch event {
                case .fetched(let tag):
                    commit(tag, Commit(result: Int32(truncatingIfNeeded: desc(tag).lengthBytes)))
                default: aborted += 1
                }
            }
        }
    }
}
