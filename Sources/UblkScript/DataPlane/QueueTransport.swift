import CLua

/// The events that a transport delivers to its queue.
enum QueueEvent {
    /// A request arrived in the tag: its descriptor is there, and a write's data unless it
    /// has to be pulled (``QueueTransport/copiesOnDemand``).
    case fetched(Tag)
    /// The operation of one of the tag's transfers is over: bytes or a negative errno.
    case operation(Tag, transfer: Int, result: Int32)
    /// The pages of the tag's request are not lent (``QueueTransport/lend(_:)``): operations on them fail, and end
    /// after this.
    case notLent(Tag)
    /// The driver has taken the tag back for good; the tag must not be used again.
    case aborted(Tag)
    /// Another thread left a message.
    case wakeup
}

/// The other side of a queue, which delivers its requests: the driver, or the simulator.
///
/// A commit becomes visible to the other side at the next ``wait(until:)``, never before, as with a
/// real ring. All of it on the queue's thread.
protocol QueueTransport: ~Copyable {
    /// The time at the end of the last wait.
    var now: Instant { get }
    /// Sends what is queued; returns when there is an event or the deadline has passed.
    mutating func wait(until deadline: Instant?)
    /// The next event of the batch that the last wait saw, nil at its end.
    mutating func nextEvent() -> QueueEvent?
    /// The request in a fetched tag.
    func desc(_ tag: Tag) -> IODesc
    /// Where the tag's data is.
    ///
    /// Mapped: at least the largest request long, page-aligned, at one address for the queue's life; behind it, at
    /// ``scratchOffset``, room for ``QueueScratch/bytes`` that a handler reads.
    func data(_ tag: Tag) -> IOData
    /// A write's data comes to the tag's buffer when it is pulled, and a read's goes to the driver when it is pushed.
    ///
    /// Otherwise the first is there when the request arrives, and the second is taken at the commit.
    var copiesOnDemand: Bool { get }
    /// Files can read and write the pages of a request itself: operations with ``FileOperation/isOnRequest``.
    ///
    /// Only with ``copiesOnDemand``.
    var lendsData: Bool { get }
    /// The location of the data of the tag's request while it is lent; ``IOData/absent``: it cannot be.
    ///
    /// - Parameters:
    ///   - flags: those of the request.
    ///   - length: its length, bytes.
    func lentData(_ tag: Tag, _ flags: IOFlags, length: UInt64) -> IOData
    /// Has the pages of the tag's request lent to operations that follow, where the driver has not done so by itself.
    mutating func lend(_ tag: Tag)
    /// Ends that, before the commit.
    mutating func takeBack(_ tag: Tag)
    /// Copies the data of the tag's write into the tag's buffer; waits for nothing.
    ///
    /// - Returns: 0 or an errno.
    mutating func pullData(_ tag: Tag, bytes: Int) -> Int32
    /// The same for handlers; nil: data is always there.
    var puller: DataPuller? { get }
    /// Copies the data of the tag's read out of the tag's buffer; waits for nothing.
    ///
    /// - Returns: 0 or an errno.
    mutating func pushData(_ tag: Tag, bytes: Int) -> Int32
    /// Completes the tag's request and asks for its next one.
    ///
    /// - Precondition: the tag was fetched and not yet committed.
    mutating func commit(_ tag: Tag, _ commit: Commit)
    /// Starts an operation of one of the tag's transfers; its end comes as
    /// ``QueueEvent/operation(_:transfer:result:)``.
    mutating func submit(_ operation: FileOperation, for tag: Tag, transfer: Int)
    /// Offset of the scratch room from the start of a tag's data; whole pages.
    var scratchOffset: Int { get }
    /// The clock for the steps of a trace, which goes on while ``now`` stands still.
    var traceClock: TraceClock { get }
    /// A store is about to begin this transfer of the tag's; for a transport that keeps book of what is durable.
    mutating func willCarryOut(_ transfer: Transfer, for tag: Tag)
}

extension QueueTransport where Self: ~Copyable {
    @inline(__always)
    var copiesOnDemand: Bool { false }
    var lendsData: Bool { false }
    func lentData(_ tag: Tag, _ flags: IOFlags, length: UInt64) -> IOData {
        flags.contains(.isNotRegistered) ? .absent : .registered
    }
    var puller: DataPuller? { nil }

    func lend(_ tag: Tag) { preconditionFailure("nothing is lent") }
    func takeBack(_ tag: Tag) { preconditionFailure("nothing is lent") }
    func pullData(_ tag: Tag, bytes: Int) -> Int32 { preconditionFailure("the data is there") }
    func pushData(_ tag: Tag, bytes: Int) -> Int32 { preconditionFailure("the data is taken") }

    @inline(__always)
    mutating func willCarryOut(_ transfer: Transfer, for tag: Tag) {}

    var traceClock: TraceClock { .real }
}

/// The scratch room of a tag, for data that a handler reads from a backing.
enum QueueScratch {
    static let bytes = Int(US_READ_MAX)
}
