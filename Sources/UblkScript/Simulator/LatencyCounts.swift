/// How long requests took: counts in steps of an eighth of a power of two, so a figure is at most
/// 12.5 % too high.
struct LatencyCounts: Sendable {
    private static let stepsPerDoubling: UInt64 = 8
    private var counts = [UInt64](repeating: 0, count: 62 * 8)
    private(set) var maxNanoseconds: UInt64 = 0
    private var total: UInt64 = 0

    mutating func add(_ nanoseconds: UInt64) {
        counts[Self.step(nanoseconds)] += 1
        maxNanoseconds = max(maxNanoseconds, nanoseconds)
        total += 1
    }

    /// The time that `share` of the requests did not exceed; 0 without any.
    func nanoseconds(share: Double) -> UInt64 {
        let wanted = UInt64((share * Double(total)).rounded(.up))
        var seen: UInt64 = 0
        for (step, count) in counts.enumerated() where count != 0 {
            seen += count
            if seen >= wanted { return min(Self.end(of: step), maxNanoseconds) }
        }
        return 0
    }

    /// Below 8 a step is one nanosecond; above, the leading bit and the three after it name it.
    private static func step(_ nanoseconds: UInt64) -> Int {
        guard nanoseconds >= stepsPerDoubling else { return Int(nanoseconds) }
        let shift = 63 - UInt64(nanoseconds.leadingZeroBitCount) - 3
        return Int((shift + 1) * stepsPerDoubling + (nanoseconds >> shift & 7))
    }

    /// The longest time in a step.
    private static func end(of step: Int) -> UInt64 {
        let step = UInt64(step)
        guard step >= stepsPerDoubling else { return step }
        let shift = step / stepsPerDoubling - 1
        return (8 + step % stepsPerDoubling + 1) &<< shift &- 1
    }
}
