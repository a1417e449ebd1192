import SystemPackage

/// One step of the protocol, as `trace` tells it: a line of text, or an object of JSON.
///
/// Plain data, made of a queue's ``TraceEvent``s and of the records of its ledger between them. What a step has nothing
/// to say about is nil.
struct TraceStep: Codable, Equatable, Sendable {
    enum Kind: String, Codable, CaseIterable, Sendable {
        /// A command for each of so many tags waits in the driver for its first request.
        case fetch = "FETCH_REQ"
        /// A request that was there before the trace.
        case found
        case request
        case decision
        case paused, delayed, held
        /// The handler waits for data of a store.
        case waiting
        /// The end of such a wait.
        case continues
        case storeBegin = "store_begin"
        case storeEnd = "store_end"
        /// The server has copied data itself.
        case copyIn = "copy_in"
        case copyOut = "copy_out"
        case commit = "COMMIT_AND_FETCH_REQ"
        case abort = "ABORT"
        /// Steps of a queue, or ``lostRecords``, that were overwritten before they were read.
        case lost
        /// Nobody read the trace for a while, so it was off.
        case gap
        // What the ledger tells besides decisions.
        case healed, released, drained, unsupported
        case scriptError = "script_error"
        case backingError = "backing_error"
        case copyError = "copy_error"
        // Commands for /dev/ublk-control, as ``ControlCommand/Kind`` has them.
        case getFeatures = "GET_FEATURES"
        case addDevice = "ADD_DEV"
        case setParams = "SET_PARAMS"
        case getParams = "GET_PARAMS"
        case getDeviceInfo = "GET_DEV_INFO"
        case getDeviceInfo2 = "GET_DEV_INFO2"
        case getQueueAffinity = "GET_QUEUE_AFFINITY"
        case startDevice = "START_DEV"
        case stopDevice = "STOP_DEV"
        case tryStopDevice = "TRY_STOP_DEV"
        case deleteDevice = "DEL_DEV_ASYNC"
        case deleteDeviceAndWait = "DEL_DEV"
        case startRecovery = "START_USER_RECOVERY"
        case endRecovery = "END_USER_RECOVERY"
        case updateSize = "UPDATE_SIZE"
        case quiesceDevice = "QUIESCE_DEV"
        case registerBuffer = "REG_BUF"
        case unregisterBuffer = "UNREG_BUF"
    }

    /// What is lost when it is no steps but what the ledger had of them.
    static let lostRecords = "records of the ledger"

    /// Nanoseconds since the trace began.
    var t: UInt64
    /// Nanoseconds before the trace began, of a command that was given then; ``t`` is 0.
    var ago: UInt64?
    var step: Kind
    var queue: UInt16?
    var tag: UInt16?
    /// Number of tags, of ``Kind/fetch`` and ``Kind/abort``.
    var tags: UInt64?
    /// Number of the IO among those of its queue.
    var io: UInt64?
    /// Nanoseconds since the request arrived.
    var sinceArrival: UInt64?
    /// What the io descriptor says.
    var op: String?
    var sector: UInt64?
    var offset: UInt64?
    var length: UInt64?
    var flags: [String]?
    /// The rule or handler that decided, as `faulty.lua:5 bad`.
    var who: String?
    var what: String?
    /// How long a delay or hang is to last, or how long a command took.
    var nanoseconds: UInt64?
    /// Number of the store, and of the transfer among those of the IO.
    var store: UInt16?
    var transfer: UInt8?
    /// Number of bytes or a negative errno.
    var result: Int64?
    var errno: String?
    /// Number of steps that are lost.
    var count: UInt64?
}

extension TraceStep {
    /// A step of its own, without what was decided.
    ///
    /// - Parameter origin: when the trace began.
    init(_ event: TraceEvent, queue: QueueID, origin: UInt64) {
        t = event.time - min(origin, event.time)
        step = Kind(event.kind)
        self.queue = queue.rawValue
        switch event.kind {
        case .began: tags = UInt64(clamping: event.amount)
        case .aborted: (tag, tags) = (event.tag, 1)
        default:
            tag = event.tag
            io = event.sequence
            sinceArrival = event.time - min(event.arrivedAt, event.time)
            op = IOOp(rawValue: event.op)?.name ?? "op \(event.op)"
        }
        switch event.kind {
        case .arrived, .found:
            sector = event.offset >> 9
            (offset, length) = (event.offset, event.length)
            let names = RuleConditions.flagBits.filter { $0.bits & event.flags != 0 }.map(\.name)
            if !names.isEmpty { flags = names }
            if event.kind == .found { what = TraceEvent.Wait(rawValue: event.amount)?.text }
        case .decided: what = Self.outcome(event.detail)
        case .delayed, .held: nanoseconds = UInt64(clamping: event.amount)
        case .transferBegun, .transferEnded:
            (offset, length) = (event.offset, event.length)
            (store, transfer) = (event.store, event.transfer)
            if event.detail != 0 { (op, what) = (IOOp.read.name, "for the handler") }
            if event.kind == .transferEnded { take(result: event.amount) }
        case .committed, .copiedIn, .copiedOut: take(result: event.amount)
        case .began, .paused, .asking, .wentOn, .aborted: break
        }
    }

    mutating func take(result: Int64) {
        self.result = result
        if result < 0 { errno = Errno(rawValue: Int32(clamping: -result)).name }
    }

    private static func outcome(_ number: UInt8) -> String {
        Outcome.all.first { $0.number == number }?.name ?? "outcome \(number)"
    }

    /// What a record of the ledger says, noted when `event` was.
    init(
        _ record: LedgerRecord,
        at event: TraceEvent,
        queue: QueueID,
        origin: UInt64,
        _ text: LedgerText
    ) {
        t = event.time - min(origin, event.time)
        step = Kind(record.kind)
        self.queue = queue.rawValue
        tag = record.tag
        io = record.sequence
        if record.sequence == event.sequence {
            sinceArrival = event.time - min(event.arrivedAt, event.time)
        }
        op = IOOp(rawValue: record.op)?.name ?? "op \(record.op)"
        who = text.who(record)
        what = text.action(record)
    }
}

extension TraceStep.Kind {
    init(_ kind: TraceEvent.Kind) {
        self =
            switch kind {
            case .began: .fetch
            case .found: .found
            case .arrived: .request
            case .decided: .decision
            case .paused: .paused
            case .delayed: .delayed
            case .held: .held
            case .asking: .waiting
            case .wentOn: .continues
            case .transferBegun: .storeBegin
            case .transferEnded: .storeEnd
            case .copiedIn: .copyIn
            case .copiedOut: .copyOut
            case .committed: .commit
            case .aborted: .abort
            }
    }

    init(_ kind: LedgerRecord.Kind) {
        self =
            switch kind {
            case .decided: .decision
            case .healed: .healed
            case .scriptError: .scriptError
            case .released: .released
            case .drained: .drained
            case .backingError: .backingError
            case .copyError: .copyError
            case .unsupported: .unsupported
            }
    }
}

extension TraceEvent.Wait {
    fileprivate var text: String {
        switch self {
        case .forNothing: "a store is at work"
        case .forResume: "paused"
        case .forDelay: "delayed"
        case .forRelease: "held"
        case .forData: "its handler waits for data"
        }
    }
}
