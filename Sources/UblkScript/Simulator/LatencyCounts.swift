/// How long requests took.
struct LatencyCounts: Sendable {
    private var counts = [UInt64](repeating: 0, count: LatencySteps.count)
    private(set) var maxNanoseconds: UInt64 = 0

    mutating func add(_ nanoseconds: UInt64) {
        counts[LatencySteps.step(nanoseconds)] += 1
        maxNanoseconds = max(maxNanoseconds, nanoseconds)
    }

    /// The time that `share` of the requests did not exceed; 0 without any.
    func nanoseconds(share: Double) -> UInt64 {
        LatencySteps.nanoseconds(share: share, of: counts, max: maxNanoseconds)
    }
}
