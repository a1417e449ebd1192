/// Text that is safe on a terminal: control characters other than line ends and tabs are written as `\xNN`.
enum Printable {
    /// - Parameter allowing: sequences that are meant, such as colours.
    static func text(_ text: String, allowing sequences: [String] = []) -> String {
        guard text.unicodeScalars.contains(where: { isControl($0) && !isLayout($0) }) else {
            return text
        }
        var result = String.UnicodeScalarView()
        var rest = text[...]
        while let scalar = rest.unicodeScalars.first {
            if let sequence = sequences.first(where: { rest.hasPrefix($0) }) {
                result.append(contentsOf: sequence.unicodeScalars)
                rest =
                    rest[
                        rest.unicodeScalars.index(
                            rest.startIndex,
                            offsetBy: sequence.unicodeScalars.count
                        )...
                    ]
                continue
            }
            if isLayout(scalar) || !isControl(scalar) {
                result.append(scalar)
            } else {
                result.append(contentsOf: escape(scalar).unicodeScalars)
            }
            rest = rest[rest.unicodeScalars.index(after: rest.startIndex)...]
        }
        return String(result)
    }

    /// `\xNN`.
    static func escape(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16)
        return "\\x" + (digits.count < 2 ? "0" : "") + digits
    }

    /// The control characters of C0 and C1, and DEL.
    static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value)
    }

    private static func isLayout(_ scalar: Unicode.Scalar) -> Bool {
        scalar == "\t" || scalar == "\n"
    }
}
