/// Times and sizes with three digits, or as few as say it all: for people.
enum Rounded {
    /// `1.95 s`, `50 ms`.
    static func time(_ nanoseconds: UInt64) -> String {
        text(nanoseconds, [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)], "ns")
    }

    /// `1.5 GiB`, `4 KiB`.
    static func bytes(_ bytes: UInt64) -> String {
        text(bytes, [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)], "B")
    }

    private static func text(
        _ number: UInt64,
        _ units: [(name: String, size: UInt64)],
        _ smallest: String
    ) -> String {
        guard let unit = units.first(where: { number >= $0.size }) else {
            return "\(number) \(smallest)"
        }
        let value = Double(number) / Double(unit.size)
        let scale = value >= 100 ? 1.0 : value >= 10 ? 10 : 100
        let text = "\((value * scale).rounded() / scale)"
        return (text.hasSuffix(".0") ? String(text.dropLast(2)) : text) + " " + unit.name
    }
}
