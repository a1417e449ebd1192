/// Random numbers by a seed: the same one gives the same numbers on every machine.
///
/// SplitMix64 (Steele, Lea, Flood 2014): eight bytes of state, passes BigCrush. Scripts, rules and the simulator draw
/// from it. What the standard library draws (`random(in:using:)`) may change between versions, so ranges are drawn
/// here.
struct SplitMix64: Sendable {
    private(set) var state: UInt64

    init(state: UInt64) { self.state = state }

    /// One of the simulator's streams.
    ///
    /// - Parameter stream: parts of a simulation that draw independently have different ones.
    init(seed: UInt64, stream: UInt64 = 0) {
        state = seed ^ (stream &* 0xd6e8_feb8_6659_fd93)
    }

    /// One of a device's streams.
    ///
    /// - Parameter stream: 0 is the script's `random()`; rule n has stream n, from 1.
    init(seed: UInt64, queue: UInt32, stream: UInt32) {
        var first = SplitMix64(state: seed ^ UInt64(queue) << 32 ^ UInt64(stream))
        state = first.next()
    }

    @inline(__always)
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// A number from 0 up to `bound`, which is not reached.
    ///
    /// - Precondition: `bound` is not 0.
    mutating func below(_ bound: UInt64) -> UInt64 {
        // The bias of the high half is below bound / 2^64: nothing a simulation can see.
        next().multipliedFullWidth(by: bound).high
    }

    /// Uniform in 0 ..< 1, 53 bits.
    @inline(__always)
    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// True with probability `chance`, from 0 to 1.
    mutating func chance(_ chance: Double) -> Bool { unit() < chance }

    /// How many numbers a stream has given since its state was `start`.
    ///
    /// Each adds the same odd number to the state; this multiplies by that one's inverse modulo 2^64.
    func draws(since start: UInt64) -> UInt64 { (state &- start) &* 0xf1de_83e1_9937_733d }
}
