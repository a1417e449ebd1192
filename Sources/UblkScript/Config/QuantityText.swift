/// A size or a time as people write it: digits, perhaps a fraction, and a unit.
///
/// Computed in integers: the fraction is kept as digits over a power of ten and must come out whole in the base unit
/// (bytes, nanoseconds), so nothing is ever rounded behind the user's back. A pure value; any thread. Scripts, rules
/// and the command line all come through here.
struct QuantityText {
    private var whole: UInt64 = 0
    private var fraction: UInt64 = 0
    private var scale: UInt64 = 1
    /// What stands behind the number.
    private let unit: [UInt8]

    /// More digits of fraction than this cannot come out whole in any unit that fits 63 bits of practice.
    private static let fractionDigitsMax = 18

    /// nil for text that does not begin with a number: no signs, no blanks.
    init?(_ text: some Sequence<UInt8>) {
        var rest = ArraySlice(text)
        let digits = Self.takeDigits(&rest)
        guard !digits.isEmpty, let whole = Self.number(digits) else { return nil }
        self.whole = whole
        if rest.first == UInt8(ascii: ".") {
            rest.removeFirst()
            var digits = Self.takeDigits(&rest)
            guard !digits.isEmpty else { return nil }
            // Zeroes at its end say nothing and may be many.
            while digits.last == UInt8(ascii: "0") { digits.removeLast() }
            guard digits.count <= Self.fractionDigitsMax else { return nil }
            fraction = Self.number(digits) ?? 0
            for _ in digits { scale *= 10 }
        }
        unit = Array(rest)
    }

    private static func takeDigits(_ text: inout ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let digits = text.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        text = text.dropFirst(digits.count)
        return digits
    }

    /// nil: more than 64 bits.
    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits {
            let (tenfold, isTooMuch) = number.multipliedReportingOverflow(by: 10)
            let (sum, overflow) = tenfold.addingReportingOverflow(UInt64(digit - UInt8(ascii: "0")))
            guard !isTooMuch, !overflow else { return nil }
            number = sum
        }
        return number
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
        if unit.isEmpty { return scaled(by: 1) }
        if unit == Array("s".utf8) { return scaled(by: 512) }
        let upper = unit[0] & ~0x20
        guard unit.count == 1 || Array(unit.dropFirst()) == Array("iB".utf8),
            (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(upper),
            let power = Array("KMGTP".utf8).firstIndex(of: upper)
        else { return nil }
        return scaled(by: 1 << UInt64(10 * (power + 1)))
    }

    private static let timeUnits: [(name: String, factor: UInt64)] = [
        ("ns", 1), ("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000), ("sec", 1_000_000_000),
        ("m", 60_000_000_000), ("min", 60_000_000_000), ("h", 3_600_000_000_000),
    ]

    /// "10ns", "50us", "50ms", "1.5s", "2sec", "3m", "3min", "1h", and "0".
    ///
    /// A bare number other than 0 has no unit and is refused.
    var nanoseconds: UInt64? {
        if unit.isEmpty { return whole == 0 && fraction == 0 ? 0 : nil }
        let known = Self.timeUnits.first { Array($0.name.utf8) == unit }
        return known.flatMap { scaled(by: $0.factor) }
    }
}
