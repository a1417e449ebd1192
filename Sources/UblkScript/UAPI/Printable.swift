/// What a terminal shows as it is: control characters are written as `\xNN`, but for line ends and tabs.
enum Printable {
    /// - Parameter allowing: sequences that are meant, such as colours.
    static func text(_ text: String, allowing sequences: [String] = []) -> String {
        guard text.unicodeScalars.contains(where: isControl) else { return text }
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
            if isControl(scalar) {
                let digits = String(scalar.value, radix: 16)
                result.append(
                    contentsOf: ("\\x" + (digits.count < 2 ? "0" : "") + digits).unicodeScalars
                )
            } else {
                result.append(scalar)
            }
            rest = rest[rest.unicodeScalars.index(after: rest.startIndex)...]
        }
        return String(result)
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x09, 0x0a: false
        case 0..<0x20, 0x7f..<0xa0: true
        default: false
        }
    }
}
