import SystemPackage

/// The application of a simulation: makes requests, remembers how they ended, and checks what it
/// reads.
struct SimulatedApplication {
    /// One request that is over, for tests that look at single ones.
    struct Finished: Equatable {
        let request: SimulatedRequest
        let outcome: BlockLayer.Outcome
        let sentAt: Instant
        let endedAt: Instant
        var nanoseconds: UInt64 { endedAt.nanoseconds(since: sentAt) }
    }

    let depth: Int
    private let gap: UInt64?
    private let end: Instant?
    /// The device stays when every request is over, for ``readBack(_:)`` to come.
    var isKept = false
    /// What it reads is what was written; nothing but the data is looked at.
    private var isReadingBack = false
    private var stream: RequestStream?
    /// Requests that come one by one from outside; nil: they come from a stream.
    private(set) var handed: HandedRequests?
    /// The oracle that checks the data of reads; nil: they are not checked.
    private(set) var oracle: DataOracle?
    private let keepsFinished: Bool
    private(set) var finished: [Finished] = []
    /// What was said to the device, in order.
    var said: [SaidWord] = []
    private(set) var sentByOp: [IOOp: Int] = [:]
    private(set) var errors: [Errno: Int] = [:]
    private(set) var latency = LatencyCounts()
    private(set) var throughput = ThroughputCounts()
    /// When the request in each place was sent.
    ///
    /// A place is a tag of a queue, numbered over all queues.
    private var sentAt: [Instant]

    /// - Parameters:
    ///   - depth: requests in flight, over all queues.
    ///   - queueDepth: places, over all queues.
    ///   - oracle: of so many places.
    init(
        _ stream: RequestStream,
        depth: Int,
        gapNanoseconds: UInt64? = nil,
        endsAt end: Instant? = nil,
        queueDepth: Int,
        oracle: DataOracle?,
        keepsFinished: Bool
    ) {
        self.stream = stream
        self.depth = depth
        gap = gapNanoseconds
        self.end = end
        self.oracle = oracle
        self.keepsFinished = keepsFinished
        sentAt = Array(repeating: Instant(nanoseconds: 0), count: queueDepth)
    }

    /// An application that sends what it is handed, and keeps what came of it.
    init(handedTo queueDepth: Int) {
        depth = 0
        gap = nil
        end = nil
        keepsFinished = false
        sentAt = Array(repeating: Instant(nanoseconds: 0), count: queueDepth)
        handed = HandedRequests(depth: queueDepth)
    }

    /// How long a place for a request stays empty, on average; nil: as short as can be.
    var gapNanoseconds: UInt64? { isReadingBack ? nil : gap }

    /// It makes requests at that time.
    func isAtWork(at time: Instant) -> Bool {
        guard let end, !isReadingBack else { return true }
        return time <= end
    }

    /// The next request, nil when there is none.
    mutating func next() -> SimulatedRequest? { stream?.next() }

    /// What is to be done before the next request, or at the end; once.
    mutating func takeSteps() -> [WorkloadStep] { stream?.takeSteps() ?? [] }

    /// Another request may come though there is none now.
    var isOpen: Bool { isKept || handed?.isOpen == true }

    /// Goes on with these reads, which count for nothing but the data, from the start.
    ///
    /// - Parameter isAfterPowerLoss: they are to bring what was made durable.
    mutating func readBack(_ stream: RequestStream, isAfterPowerLoss: Bool = false) {
        self.stream = stream
        isReadingBack = true
        if isAfterPowerLoss { oracle?.losePower() } else { oracle?.beginReadBack() }
    }

    /// The request in that place is one from outside.
    mutating func hand(_ place: Int, number: UInt64, data: [UInt8]) {
        handed?.hand(place, number: number, data: data)
    }

    /// Returns the requests from outside that are over, each once.
    mutating func takeEnded() -> [HandedRequests.Ended] { handed?.takeEnded() ?? [] }

    /// No request comes from outside any more.
    mutating func close() { handed?.isOpen = false }

    /// The request reaches the server; a write's data is put into the buffer.
    mutating func sent(
        _ place: Int,
        _ request: SimulatedRequest,
        at now: Instant,
        _ buffer: UnsafeMutableRawPointer
    ) {
        if !isReadingBack { sentByOp[request.op, default: 0] += 1 }
        sentAt[place] = now
        unsafe oracle?.begin(place, request, buffer)
        unsafe handed?.begin(place, request, buffer)
    }

    /// The driver has the server's answer; a read's data is in the buffer.
    mutating func ended(
        _ place: Int,
        _ request: SimulatedRequest,
        result: Int32,
        at now: Instant,
        _ buffer: UnsafeRawPointer
    ) {
        let outcome = BlockLayer.outcome(of: request, result: result)
        unsafe oracle?.end(place, request, outcome, buffer)
        guard !isReadingBack else { return }
        if case .failed(let errno) = outcome { errors[errno, default: 0] += 1 }
        let sent = sentAt[place]
        unsafe handed?.end(place, request, outcome, now.nanoseconds(since: sent), buffer)
        latency.add(now.nanoseconds(since: sent))
        throughput.add(at: now)
        guard keepsFinished else { return }
        finished.append(
            Finished(request: request, outcome: outcome, sentAt: sent, endedAt: now)
        )
    }
}
