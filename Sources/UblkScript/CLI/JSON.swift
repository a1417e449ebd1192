import FoundationEssentials

/// JSON for records and `--json`.
enum JSON {
    static func encode(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Encoding fails only for values such as NaN, and nothing here has one.
        guard let data = try? encoder.encode(value) else { preconditionFailure("JSON") }
        return Array(data)
    }

    static func text(_ value: some Encodable) -> String {
        String(decoding: encode(value), as: UTF8.self)
    }

    /// Decodes a value; nil for text that is not such a value.
    static func decode<T: Decodable>(_ type: T.Type, _ bytes: [UInt8]) -> T? {
        try? JSONDecoder().decode(type, from: Data(bytes))
    }
}
