/// A size or a time as people write it: digits, perhaps a fraction, and a unit.
///
/// Computed in integers: the fraction is kept as digits over a power of ten, and the result must be a whole number of
/// the base unit (bytes, nanoseconds), so nothing is silently rounded. Used for scripts, rules and the command line. A
/// value; any thread.
struct QuantityText {
    private var whole: UInt64 = 0
    private var fraction: UInt64 = 0
    private var scale: UInt64 = 1
    /// The unit, encoded by ``code(_:_:)``; 0: none.
    private var unit: UInt32 = 0

    /// The most digits of a fraction; more cannot be a whole number in any unit.
    private static let fractionDigitsMax = 18

    private enum Part { case whole, fraction, unit }

    /// Splits the text; fails when it does not begin with a number without sign and blanks.
    ///
    /// Allocates nothing, as handlers parse sizes on the IO path.
    init?(_ text: some Sequence<UInt8>) {
        var part = Part.whole
        var digits = 0
        // Trailing zeroes of a fraction have no meaning, and do not count against the limit.
        var (fractionDigits, zeroes) = (0, 0)
        for byte in text {
            let digit = UInt64(byte) &- UInt64(UInt8(ascii: "0"))
            if digit <= 9, part == .whole {
                let (tenfold, isTooMuch) = whole.multipliedReportingOverflow(by: 10)
                let (sum, overflow) = tenfold.addingReportingOverflow(digit)
                guard !isTooMuch, !overflow else { return nil }
                whole = sum
                digits += 1
            } else if digit <= 9, part == .fraction {
                digits += 1
                zeroes += 1
                guard digit != 0 else { continue }
                fractionDigits += zeroes
                guard fractionDigits <= Self.fractionDigitsMax else { return nil }
                for _ in 0..<zeroes { (fraction, scale) = (fraction * 10, scale * 10) }
                fraction += digit
                zeroes = 0
            } else if byte == UInt8(ascii: "."), part == .whole, digits > 0 {
                part = .fraction
                digits = 0
            } else {
                guard digits > 0 else { return nil }
                part = .unit
                unit = Self.code(unit, byte)
            }
        }
        guard digits > 0 else { return nil }
    }

    /// Appends a byte to an encoded unit: up to three bytes, the first one lowest; all longer units are `.max`.
    private static func code(_ unit: UInt32, _ byte: UInt8) -> UInt32 {
        let length = (32 - unit.leadingZeroBitCount + 7) / 8
        return length < 3 && byte != 0 ? unit | UInt32(byte) << UInt32(length * 8) : .max
    }

    private static func code(_ text: StaticString) -> UInt32 {
        text.withUTF8Buffer { bytes in
            unsafe bytes.reduce(0) { Self.code($0, $1) }
        }
    }

    /// The value times `factor`; nil when that is not a whole number below 2^63.
    private func scaled(by factor: UInt64) -> UInt64? {
        let (part, rest) = (UInt128(fraction) * UInt128(factor)).quotientAndRemainder(
            dividingBy: UInt128(scale)
        )
        let total = UInt128(whole) * UInt128(factor) + part
        return rest == 0 && total <= UInt128(Int64.max) ? UInt64(total) : nil
    }

    /// The size in bytes; nil unless it reads as "4096", "4K", "4KiB", "4k", "1.5M", "2G", "1T", "1P", "8s" (sectors).
    ///
    /// K, M, ... are powers of 1024, in either case, alone or as "KiB". Sectors have 512 bytes; their "s" is lower case
    /// only, as in dmsetup and sfdisk.
    var bytes: UInt64? {
        switch unit {
        case 0: return scaled(by: 1)
        case Self.code("s"): return scaled(by: 512)
        default: break
        }
        // The letter in either case, alone or before "iB".
        guard unit >> 8 == 0 || unit >> 8 == Self.code("iB") else { return nil }
        let power: UInt64
        switch UInt8(truncatingIfNeeded: unit) & ~0x20 {
        case UInt8(ascii: "K"): power = 1
        case UInt8(ascii: "M"): power = 2
        case UInt8(ascii: "G"): power = 3
        case UInt8(ascii: "T"): power = 4
        case UInt8(ascii: "P"): power = 5
        default: return nil
        }
        return scaled(by: 1 << (10 * power))
    }

    /// The time in nanoseconds; nil unless it reads as "10ns", "50us", "50ms", "1.5s", "2sec", "3m", "3min", "1h", "0".
    ///
    /// A number without a unit is refused, except 0.
    var nanoseconds: UInt64? {
        switch unit {
        case 0: return whole == 0 && fraction == 0 ? 0 : nil
        case Self.code("ns"): return scaled(by: 1)
        case Self.code("us"): return scaled(by: 1000)
        case Self.code("ms"): return scaled(by: 1_000_000)
        case Self.code("s"), Self.code("sec"): return scaled(by: 1_000_000_000)
        case Self.code("m"), Self.code("min"): return scaled(by: 60_000_000_000)
        case Self.code("h"): return scaled(by: 3_600_000_000_000)
        default: return nil
        }
    }
}
