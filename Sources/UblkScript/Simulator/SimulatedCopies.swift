import SystemPackage

/// Copies of data between requests and the buffers of their tags, where the server makes them itself.
struct SimulatedCopies {
    /// Answers of the driver to copies that fail, by the number of the copy, from 1.
    var failing: [Int: Errno] = [:]
    /// Writes and reads whose data was copied, or should have been.
    private(set) var pulled = 0
    private(set) var pushed = 0
    /// Requests whose pages were to be lent.
    private var lent = 0
    /// Of so many requests the pages of one cannot be lent.
    private static let unlentEach = 5

    /// - Returns: what the driver says of the pages of a request that comes.
    mutating func register() -> IOFlags {
        lent += 1
        return lent % Self.unlentEach == 0 ? .isNotRegistered : []
    }

    /// - Returns: 0 or the errno that the driver answers.
    mutating func pull() -> Int32 {
        pulled += 1
        return answer
    }

    /// The same for a read.
    mutating func push() -> Int32 {
        pushed += 1
        return answer
    }

    private var answer: Int32 { failing[pulled + pushed]?.rawValue ?? 0 }
}
