/// The simulator's random numbers: the same seed gives the same run on every machine.
///
/// SplitMix64 (Steele, Lea, Flood 2014), the generator scripts have too. What the standard library
/// draws from it (`random(in:using:)`) may change between versions, so ranges are drawn here.
struct SplitMix64: Sendable {
    private var state: UInt64

    /// - Parameter stream: parts of a simulation that draw independently have different ones.
    init(seed: UInt64, stream: UInt64 = 0) {
        state = seed ^ (stream &* 0xd6e8_feb8_6659_fd93)
    }

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

    /// True with probability `chance`, from 0 to 1.
    mutating func chance(_ chance: Double) -> Bool {
        Double(next() >> 11) * 0x1p-53 < chance
    }
}
