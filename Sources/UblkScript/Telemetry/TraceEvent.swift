import CLua

/// One step of a request through its queue, noted while somebody traces.
///
/// Flat data of a fixed size. What was decided, and by whom, is in the ledger: ``ledger`` says how far that was.
struct TraceEvent: TimedRecord {
    enum Kind: UInt8 {
        /// The trace begins; ``amount`` is the number of tags, each of which was fetched.
        case began
        /// The queue has had the request since before the trace; ``amount`` is why it waits, a ``Wait``.
        case found
        case arrived
        /// Rules and handler have decided, ``detail`` is the outcome.
        case decided
        /// Held before anything is decided.
        case paused
        /// Waits for ``amount`` nanoseconds.
        case delayed
        /// Held for ``amount`` nanoseconds; 0: until it is released.
        case held
        /// Its handler waits for data of a store.
        case asking
        /// One of these waits is over.
        case wentOn
        /// A transfer begins: ``offset`` is in the store ``store``, ``detail`` is 1 for a read by a handler.
        case transferBegun
        /// It is over; ``amount`` is a number of bytes or a negative errno.
        case transferEnded
        /// A write's data was copied from the driver, or a read's to it; ``amount`` is a number of bytes or a negative
        /// errno.
        case copiedIn, copiedOut
        /// ``amount`` is the result.
        case committed
        /// The driver has taken the tag back for good.
        case aborted
    }

    /// Why a request that was found waits.
    enum Wait: Int64 {
        case forNothing, forResume, forDelay, forRelease, forData
    }

    let kind: Kind
    let op: UInt8
    let tag: UInt16
    /// The `op_flags` of the IO.
    let flags: UInt32
    /// Nanoseconds on the queue's clock.
    let time: UInt64
    /// When the request arrived, on that clock.
    let arrivedAt: UInt64
    /// Number of the IO, counted by its queue; 0: there is none.
    let sequence: UInt64
    /// Of the IO, or of a transfer in its store.
    var offset: UInt64
    /// Of the IO, or of a transfer.
    var length: UInt64
    /// How many records the queue's ledger had by then.
    let ledger: UInt64
    var amount: Int64 = 0
    var store: UInt16 = 0
    /// Number of the transfer among those of the IO.
    var transfer: UInt8 = 0
    var detail: UInt8 = 0

    /// A step of an IO; times are nanoseconds on the queue's clock.
    @inline(__always)
    init(_ kind: Kind, _ io: us_io, arrivedAt: UInt64, time: UInt64, ledger: UInt64) {
        self.kind = kind
        op = io.op
        tag = io.tag
        flags = io.flags
        self.time = time
        self.arrivedAt = arrivedAt
        sequence = io.sequence
        offset = io.offset
        length = io.length
        self.ledger = ledger
    }
}

/// The latest steps of a queue's requests.
typealias TraceRing = RecordRing<TraceEvent>
