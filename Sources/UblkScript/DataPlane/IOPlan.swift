import CLua

/// What is still to be done to the media for one IO, and how it ends.
///
/// Made once, from a decision that nothing changes any more (``Planner``); carried out by one loop
/// (`Queue+Plan.swift`). A torn write, a mirror, a stripe, a flush of several stores: all of them are transfers of one
/// plan. The transfers are in the ``RequestTable``, the progress of each is its store's.
///
///     begun ◄── next        underWay of the begun ones are not over
///     ├──────────┼─────────────────┤ count
struct IOPlan {
    static let transfersMax = Int(US_TRANSFERS_MAX)

    /// Transfers in all.
    var count: UInt8 = 0
    /// The first one that has not begun.
    var next: UInt8 = 0
    /// Those that have begun and are not over.
    var underWay: UInt8 = 0
    /// Each begins when the one before is over; otherwise all at once.
    var isOrdered = false
    /// A handler's read: its end is an answer, not the IO's.
    var isQuestion = false
    /// A transfer has failed.
    var hasFailed = false
    /// What a heal rule heals once the IO has succeeded.
    var healed = Healed.all
    /// The bytes of the IO that are stored, for ``Healed/part``.
    var part: Range<UInt64> = 0..<0
    /// How the IO ends once no transfer is under way: 0 with all of its bytes, otherwise with this errno.
    var errno: Int32 = 0

    enum Healed: UInt8 {
        case all
        /// A write that is stored in part heals that part, ...
        case part
        /// ... or those parts.
        case transfers
        case nothing
    }

    /// Nothing is under way, and nothing more will be.
    ///
    /// Once all that can begin has begun.
    var isOver: Bool { underWay == 0 }

    /// Another transfer can begin.
    var canBegin: Bool { next < count && (underWay == 0 || !isOrdered) }

    /// The first failure is the IO's: nothing more begins.
    ///
    /// - Returns: false when there was one before.
    mutating func fail(_ errno: Int32) -> Bool {
        next = count
        guard !hasFailed else { return false }
        hasFailed = true
        self.errno = errno
        return true
    }
}
