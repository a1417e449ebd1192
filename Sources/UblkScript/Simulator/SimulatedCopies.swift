import SystemPackage

/// Copies of data between requests and the buffers of their tags, where the server makes them itself.
struct SimulatedCopies {
    /// Answers of the driver to copies that fail, by the number of the copy, from 1.
    var failing: [Int: Errno] = [:]
    /// Writes and reads whose data was copied, or should have been.
    private(set) var pulled = 0
    private(set) var pushed = 0

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
