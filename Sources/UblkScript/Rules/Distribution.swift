import CLua
import Glibc

/// A distribution of times, as `dist.*` makes it in a script.
///
/// `dist_lua.c` makes and checks the numbers; memory of the script, immutable, so it lives as long as that. Sampling
/// allocates nothing and cannot fail. Each kind takes one uniform number or two, by inversion or Box-Muller, so how
/// many numbers a sample takes does not depend on what they are; exp, log and cos are the C library's, whose last
/// digit may differ between versions.
@safe
struct Distribution: Sendable {
    // Safety: of the script, which outlives the rules.
    private nonisolated(unsafe) let numbers: UnsafePointer<us_dist>

    private static let longest = 366.0 * 86400.0 * 1e9

    /// - Parameter address: of a distribution that lives; nil for 0.
    init?(address: UInt) {
        guard let numbers = unsafe UnsafePointer<us_dist>(bitPattern: address) else { return nil }
        unsafe self.numbers = numbers
    }

    /// Nanoseconds, at most 366 days.
    func sample(_ stream: inout SplitMix64) -> UInt64 { unsafe Self.sample(numbers, &stream) }

    @inline(__always)
    fileprivate static func sample(
        _ dist: UnsafePointer<us_dist>,
        _ stream: inout SplitMix64
    ) -> UInt64 {
        let time = unsafe draw(dist, &stream)
        guard time > 0 else { return 0 }  // NaN too
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

    /// Standard normal.
    private static func normal(_ stream: inout SplitMix64) -> Double {
        // 1 - u is never 0.
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
