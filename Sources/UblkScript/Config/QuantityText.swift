/// A size or a time as people write it: digits, perhaps a fraction, and a unit.
///
/// Computed in integers: the fraction is kept as digits over a power of ten and must come out whole in the base unit
/// (bytes, nanoseconds), so nothing is ever rounded behind the user's back. A pure value; any thread. Scripts, rules
/// and the command line all come through here.
struct QuantityText {
    private var whole: UInt64 = 0
    private var fraction: UInt64 = 0
    private var scale: UInt64 = 1
    /// What stands behind the number; 0: nothing.
    private var unit: UInt32 = 0

    /// More digits of fraction than this cannot come out whole in any unit that fits 63 bits of practice.
    private static let fractionDigitsMax = 18

    private enum Part { case whole, fraction, unit }

    /// nil for text that does not begin with a number: no signs, no blanks.
    ///
    /// Allocates nothing: handlers name sizes while they run.
    init?(_ text: some Sequence<UInt8>) {
        var part = Part.whole
        var digits = 0
        // Zeroes at the end of a fraction say nothing and may be many.
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

    /// A unit of up to three bytes as a number, the first one lowest; longer ones are all the same.
    private static func code(_ unit: UInt32, _ byte: UInt8) -> UInt32 {
        let length = (32 - unit.leadingZeroBitCount + 7) / 8
        return length < 3 && byte != 0 ? unit | UInt32(byte) << UInt32(length * 8) : .max
    }

    private static func code(_ text: StaticString) -> UInt32 {
        text.withUTF8Buffer { bytes in
            unsafe bytes.reduce(0) { Self.code($0, $1) }
        }
    }

    /// In the base unit; nil when it is no whole number below 2^63.
    private func scaled(by factor: UInt64) -> UInt64? {
        let (part, rest) = (UInt128(fraction) * UInt128(factor)).quotientAndRemainder(
            dividingBy: UInt128(scale)
        )
        let total = UInt128(whole) * UInt128(factor) + part
        return rest == 0 && total <= UInt128(Int64.max) ? UInt64(total) : nil
    }

    /// "4096", "4K", "4KiB", "4k", "1.5M", "2G", "1T", "1P", "8s" (512-byte sectors).
    ///
    /// K, M, ... are powers of 1024, in either case, alone or as "KiB"; "s" only in lower case, as dmsetup and sfdisk
    /// write sectors.
    var bytes: UInt64? {
        switch unit {
        case 0: return scaled(by: 1)
        case Self.code("s"): return scaled(by: 512)
        default: break
        }
        // Either case of the letter, alone or before iB.
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

    /// "10ns", "50us", "50ms", "1.5s", "2sec", "3m", "3min", "1h", and "0".
    ///
    /// A bare number other than 0 has no unit and is refused.
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
