import CLua
import Glibc

/// A distribution of times, as `dist.*` makes it in a script.
///
/// `dist_lua.c` makes and checks the parameters; they are in the script's memory, immutable, and live as long as the
/// script. Sampling allocates nothing and cannot fail. Each kind takes one or two uniform random numbers (inversion,
/// Box-Muller), never a number of them that depends on their values; exp, log and cos are the C library's, whose last
/// digit may differ between versions. Any thread.
@safe
struct Distribution: Sendable {
    // Safety: in memory of the script, which outlives the rules.
    private nonisolated(unsafe) let numbers: UnsafePointer<us_dist>

    /// The longest sample, nanoseconds.
    private static let longest = 366.0 * 86400.0 * 1e9

    /// - Parameter address: of a live distribution; 0 makes the initializer fail.
    init?(address: UInt) {
        guard let numbers = unsafe UnsafePointer<us_dist>(bitPattern: address) else { return nil }
        unsafe self.numbers = numbers
    }

    /// Draws a time in nanoseconds, at most 366 days.
    func sample(_ stream: inout SplitMix64) -> UInt64 { unsafe Self.sample(numbers, &stream) }

    @inline(__always)
    fileprivate static func sample(
        _ dist: UnsafePointer<us_dist>,
        _ stream: inout SplitMix64
    ) -> UInt64 {
        let time = unsafe draw(dist, &stream)
        guard time > 0 else { return 0 }  // also when it is NaN
        return UInt64(bitPattern: Int64(time < longest ? time + 0.5 : longest))
    }

    private static func draw(
        _ dist: UnsafePointer<us_dist>,
        _ stream: inout SplitMix64
    ) -> Double {
        var dist = unsafe dist
        while unsafe dist.pointee.kind == US_DIST_PARTS {
            guard let part = unsafe part(of: dist, stream.unit()) else { return 0 }
            guard let below = unsafe part.pointee.dist else {
                let (low, high) = unsafe (part.pointee.low, part.pointee.high)
                return low + (high - low) * stream.unit()
            }
            unsafe dist = unsafe below
        }
        let (a, b) = unsafe (dist.pointee.a, dist.pointee.b)
        switch unsafe dist.pointee.kind {
        case US_DIST_CONST: return a
        case US_DIST_UNIFORM: return a + (b - a) * stream.unit()
        case US_DIST_NORMAL: return a + b * normal(&stream)
        case US_DIST_LOGNORMAL: return a * exp(b * normal(&stream))
        case US_DIST_PARETO: return a * pow(1.0 - stream.unit(), -1.0 / b)
        case US_DIST_EXPONENTIAL: return a - b * log(1.0 - stream.unit())
        default: return 0
        }
    }

    /// Draws from the standard normal distribution (Box-Muller).
    private static func normal(_ stream: inout SplitMix64) -> Double {
        // unit() is below 1, so the argument of log is never 0.
        let radius = (-2.0 * log(1.0 - stream.unit())).squareRoot()
        return radius * cos(2.0 * 3.14159265358979323846 * stream.unit())
    }

    /// The first part whose `upto` is above `chance`.
    @inline(__always)
    private static func part(
        of dist: UnsafePointer<us_dist>,
        _ chance: Double
    ) -> UnsafeMutablePointer<us_dist_part>? {
        guard let parts = unsafe dist.pointee.parts else { return nil }
        var low = 0
        var high = unsafe dist.pointee.part_count &- 1
        while low < high {
            let middle = low &+ (high &- low) &>> 1
            if unsafe parts[middle].upto > chance { high = middle } else { low = middle &+ 1 }
        }
        return unsafe parts + low
    }
}

extension us_dist_functions {
    static var table: Self {
        unsafe Self(sample: { dist, stream in
            guard let dist = unsafe dist, let stream = unsafe stream else { return 0 }
            var numbers = unsafe SplitMix64(state: stream.pointee.state)
            let time = unsafe Distribution.sample(dist, &numbers)
            unsafe stream.pointee.state = numbers.state
            return time
        })
    }
}
