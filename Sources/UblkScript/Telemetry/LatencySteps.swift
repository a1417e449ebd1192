/// Times in steps of an eighth of a power of two, so a figure is at most 12.5 % too high.
enum LatencySteps {
    private static let perDoubling: UInt64 = 8
    static let count = 62 * 8

    /// Below 8 a step is one nanosecond; above, the leading bit and the three after it name it.
    @inline(__always)
    static func step(_ nanoseconds: UInt64) -> Int {
        guard nanoseconds >= perDoubling else { return Int(nanoseconds) }
        let shift = 63 &- UInt64(nanoseconds.leadingZeroBitCount) &- 3
        return Int(truncatingIfNeeded: (shift &+ 1) &* perDoubling &+ (nanoseconds &>> shift & 7))
    }

    /// The longest time that belongs to a step.
    static func end(of step: Int) -> UInt64 {
        let step = UInt64(step)
        guard step >= perDoubling else { return step }
        let shift = step / perDoubling - 1
        return (8 + step % perDoubling + 1) &<< shift &- 1
    }

    /// The quantile: the time that a `share` of the counted times does not exceed; 0 when nothing was counted.
    static func nanoseconds(share: Double, of counts: [UInt64], max: UInt64) -> UInt64 {
        let wanted = UInt64((share * Double(counts.reduce(0, +))).rounded(.up))
        var seen: UInt64 = 0
        for (step, count) in counts.enumerated() where count != 0 {
            seen += count
            if seen >= wanted { return min(end(of: step), max) }
        }
        return 0
    }
}
