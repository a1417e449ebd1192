import CLua

/// The transfers of one IO that are still to be done, and how the IO ends.
///
/// Made once, from a decision that nothing changes any more (``Planner``); carried out by one loop
/// (`Queue+Plan.swift`). A torn write, a mirror, a stripe, a flush of several stores: all of them are transfers of one
/// plan. The transfers are in the ``RequestTable``, the progress of each is its store's.
///
///     begun ◄── next        underWay of the begun ones are not over
///     ├──────────┼─────────────────┤ count
struct IOPlan {
    static let transfersMax = Int(US_TRANSFERS_MAX)

    /// Number of transfers.
    var count: UInt8 = 0
    /// Index of the first transfer that has not begun.
    var next: UInt8 = 0
    /// Number of transfers that have begun and are not over.
    var underWay: UInt8 = 0
    /// Each transfer begins when the one before is over; otherwise all begin at once.
    var isOrdered = false
    /// The plan is a handler's read: its end goes to the handler and does not end the IO.
    var isQuestion = false
    /// A transfer has failed.
    var hasFailed = false
    /// What a heal rule heals once the IO has succeeded.
    var healed = Healed.all
    /// The bytes of the IO that are stored, for ``Healed/run``.
    var run: Range<UInt64> = 0..<0
    /// How the IO ends once no transfer is under way: 0 with all of its bytes, otherwise with this errno.
    var errno: Int32 = 0

    enum Healed: UInt8 {
        case all
        /// The bytes in ``IOPlan/run``, of a write that is torn to one run.
        case run
        /// The bytes of the transfers, of a write that is torn to several runs.
        case transfers
        case nothing
    }

    /// No transfer is under way; valid once all that can begin have begun.
    var isOver: Bool { underWay == 0 }

    /// Another transfer can begin.
    var canBegin: Bool { next < count && (underWay == 0 || !isOrdered) }

    /// Notes a failure: the first one is the IO's, and no further transfer begins.
    ///
    /// - Returns: false when a transfer had failed before.
    mutating func fail(_ errno: Int32) -> Bool {
        next = count
        guard !hasFailed else { return false }
        hasFailed = true
        self.errno = errno
        return true
    }
}
