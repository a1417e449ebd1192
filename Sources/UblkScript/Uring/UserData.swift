/// The meaning of a CQE, packed into its 64 bits of user data.
///
///     63      56 55         24 23      16 15      0
///     | kind    | unused      | transfer | tag    |
struct UserData: Equatable, Sendable {
    enum Kind: UInt8, Sendable {
        /// A FETCH or COMMIT_AND_FETCH of `tag` is over: a request arrived or the tag was aborted.
        case request = 1
        /// The driver has all tags of the queue, or refuses them (PREP_IO_CMDS).
        case prepared = 7
        /// The driver has taken results; instead of the tag their number (COMMIT_IO_CMDS).
        case committed = 8
        /// Requests arrived in several tags, or all tags were aborted (FETCH_IO_CMDS).
        case tags = 9
        /// An operation of a `transfer` of `tag` is over.
        case operation = 2
        /// The driver has refused to lend the pages of the request in `tag`, or to take them back.
        case loan = 6
        /// Another thread rang the queue's eventfd.
        case wakeup = 3
        /// A control command.
        case control = 4
        /// The cancellation of a control command.
        case cancel = 5
    }

    let rawValue: UInt64

    /// - Parameter transfer: less than 256.
    init(_ kind: Kind, tag: Tag = Tag(0), transfer: Int = 0) {
        rawValue =
            UInt64(kind.rawValue) << 56 | UInt64(UInt8(transfer)) << 16 | UInt64(tag.rawValue)
    }

    init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The kind of completion; nil for a value that this program never makes.
    var kind: Kind? { Kind(rawValue: UInt8(truncatingIfNeeded: rawValue >> 56)) }
    var tag: Tag { Tag(UInt16(truncatingIfNeeded: rawValue)) }
    /// Index of the transfer in the tag's plan.
    var transfer: Int { Int(UInt8(truncatingIfNeeded: rawValue >> 16)) }
}
