import CLua

/// Sizes, times, names and errno names as people write them, for scripts, rules and the command line.
enum Quantity {
    /// Reads `4096`, `4K`, `1.5G`, `8s`; nil for anything else.
    static func bytes(_ text: String) -> UInt64? { QuantityText(text.utf8)?.bytes }

    /// Reads `50ms`, `1.5s`, `200us`; nil for anything else.
    static func nanoseconds(_ text: String) -> UInt64? { QuantityText(text.utf8)?.nanoseconds }

    /// The number of an errno that the block layer distinguishes; nil for any other name.
    static func blockErrno(named name: String) -> Int32? {
        unsafe withUTF8(name) { text, length in
            guard let entry = unsafe us_errno_by_name(text, length) else { return nil }
            return unsafe entry.pointee.number
        }
    }

    /// All names that ``blockErrno(named:)`` accepts.
    static var blockErrnoNames: [String] {
        (0..<us_errno_count()).compactMap { index in
            guard let entry = unsafe us_errno_at(index) else { return nil }
            return unsafe String(cString: entry.pointee.name)
        }
    }

    /// `1073741824` -> `1G`: the largest unit that leaves a whole number.
    static func text(bytes: UInt64) -> String {
        for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)]
        where bytes != 0 && bytes.trailingZeroBitCount >= shift {
            return "\(bytes >> UInt64(shift))\(unit)"
        }
        return "\(bytes)"
    }

    /// `50000000` -> `50ms`: the largest unit that leaves a whole number.
    static func text(nanoseconds: UInt64) -> String {
        let units: [(String, UInt64)] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)]
        for (unit, size) in units where nanoseconds != 0 && nanoseconds % size == 0 {
            return "\(nanoseconds / size)\(unit)"
        }
        return "\(nanoseconds)ns"
    }

    /// Reads pairs of hexadecimal digits; nil for anything else.
    static func hexBytes(_ text: String) -> [UInt8]? {
        let digits = text.utf8.map { Character(UnicodeScalar($0)).hexDigitValue }
        guard digits.count.isMultiple(of: 2), !digits.contains(nil) else { return nil }
        let values = digits.compactMap { $0 }
        return stride(from: 0, to: values.count, by: 2).map {
            UInt8(values[$0] << 4 | values[$0 + 1])
        }
    }

    /// The rule for names, as part of an error text.
    static let nameRule = US_NAME_RULE

    /// The reason why the text is not a name (``NameText``), such as "byte 2 is a blank"; nil when it is one.
    static func nameFlaw(_ text: String) -> String? {
        NameText.flaw(Array(text.utf8))
    }

    private static func withUTF8<R>(
        _ text: String,
        _ body: (UnsafePointer<CChar>?, Int) -> R
    ) -> R {
        var text = text
        return text.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) { unsafe body($0.baseAddress, $0.count) }
        }
    }
}
