/// A key and value of `device{}`, of `rule{}` or of the command line, with its origin.
///
/// Every check throws a ``ConfigError`` that names the origin: `faulty.lua:3: depth = 9999: ...`.
struct Setting: Sendable {
    indirect enum Value: Sendable, Equatable {
        case bool(Bool)
        case integer(Int64)
        case number(Double)
        case string(String)
        /// A `ranges` object; Swift holds only its address.
        case ranges(UInt)
        /// The address of a distribution or of a bucket.
        case dist(UInt)
        case bucket(UInt)
        /// A verdict: the address of its decision, and that of its distribution or 0.
        case verdict(UInt, dist: UInt)
        /// The number of a backing.
        case backing(Int)
        case list([Value])
        case table([String: Value])
    }

    let key: String
    let value: Value
    /// Where the setting was written, such as `faulty.lua:3` or `option --depth`.
    let origin: String

    init(key: String, value: Value, origin: String) {
        self.key = key
        self.value = value
        self.origin = origin
    }

    /// Parses `key=value`; dashes in the key become underscores.
    init(argument text: String) throws(ConfigError) {
        guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
            throw ConfigError(origin: "argument \(text)", text: "key=value is expected")
        }
        key = text[..<equals].map { $0 == "-" ? "_" : String($0) }.joined()
        value = .string(String(text[text.index(after: equals)...]))
        origin = "argument \(text)"
    }

    /// Parses several `key=value`; each key may occur once.
    static func arguments(_ words: [String]) throws(ConfigError) -> [Setting] {
        var settings: [Setting] = []
        for word in words { settings.append(try Setting(argument: word)) }
        try refuseTwice(settings)
        return settings
    }

    /// Refuses a key that is given more than once on the command line.
    static func refuseTwice(_ settings: [Setting]) throws(ConfigError) {
        for (index, setting) in settings.enumerated() {
            guard let other = settings[..<index].first(where: { $0.key == setting.key }) else {
                continue
            }
            throw ConfigError(
                origin: setting.origin,
                text: "\(setting.key) is given twice: \(other.origin) says it, too"
            )
        }
    }

    /// The error for a value that the key does not take.
    func refused(_ expected: String) -> ConfigError {
        ConfigError(
            origin: origin,
            text: "\(key) = \(Self.describe(value)): \(expected) is expected"
        )
    }

    /// The value as a name.
    func name() throws(ConfigError) -> String {
        let text = try text()
        guard let flaw = Quantity.nameFlaw(text) else { return text }
        throw ConfigError(
            origin: origin,
            text: "\(key) = \(Self.describe(value)) (\(flaw)): \(Quantity.nameRule) is expected"
        )
    }

    /// The setting as it would be written on the command line.
    var asTyped: String { "\(key)=\(plainText)" }

    /// The value as it would be written on the command line.
    var plainText: String {
        if case .string(let text) = value { text } else { Self.describe(value) }
    }

    static func describe(_ value: Value) -> String {
        switch value {
        case .bool(let flag): "\(flag)"
        case .integer(let number): "\(number)"
        case .number(let number): "\(number)"
        case .string(let text): "\"\(text)\""
        case .ranges: "ranges"
        case .dist: "a distribution"
        case .bucket: "a bucket"
        case .verdict: "a verdict"
        case .backing: "a backing"
        case .list(let items): "{" + items.map(describe).joined(separator: ", ") + "}"
        case .table(let items):
            "{" + items.keys.sorted().map { "\($0) = ..." }.joined(separator: ", ") + "}"
        }
    }
}

/// The error for a setting that is refused: its origin, what is wrong, and what is accepted.
struct ConfigError: Error, CustomStringConvertible, Equatable {
    let origin: String
    let text: String
    var description: String { "\(origin): \(text)" }
}

extension Setting {
    /// The value as a boolean; the command line may also write 1 and 0.
    func bool() throws(ConfigError) -> Bool {
        switch value {
        case .bool(let flag): return flag
        case .string("true"), .string("1"): return true
        case .string("false"), .string("0"): return false
        default: throw refused("true or false")
        }
    }

    /// The value as a whole number in `range`.
    func integer(_ range: ClosedRange<Int64>) throws(ConfigError) -> Int64 {
        let number: Int64? =
            switch value {
            case .integer(let number): number
            case .string(let text): Int64(text)
            default: nil
            }
        guard let number, range.contains(number) else {
            throw refused("a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// The value as a size in bytes in `range`: a number, or text with a unit.
    func bytes(_ range: ClosedRange<UInt64>) throws(ConfigError) -> UInt64 {
        let bytes: UInt64? =
            switch value {
            case .integer(let number): UInt64(exactly: number)
            case .string(let text): Quantity.bytes(text)
            default: nil
            }
        guard let bytes, range.contains(bytes) else {
            let low = Quantity.text(bytes: range.lowerBound)
            let high = Quantity.text(bytes: range.upperBound)
            throw refused("a size from \(low) to \(high), as bytes or \"4K\", \"1M\", \"2G\"")
        }
        return bytes
    }

    /// The value as a size in bytes that is a power of two in `range`.
    func powerOfTwo(_ range: ClosedRange<UInt64>) throws(ConfigError) -> UInt32 {
        guard let bytes = try? bytes(range), bytes.nonzeroBitCount == 1 else {
            let low = Quantity.text(bytes: range.lowerBound)
            let high = Quantity.text(bytes: range.upperBound)
            throw refused("a power of two from \(low) to \(high)")
        }
        return UInt32(bytes)
    }

    /// The value as a time in nanoseconds in `range`: a number, or text with a unit.
    func nanoseconds(_ range: ClosedRange<UInt64>) throws(ConfigError) -> UInt64 {
        let time: UInt64? =
            switch value {
            case .integer(let number): UInt64(exactly: number)
            case .string(let text): Quantity.nanoseconds(text)
            default: nil
            }
        guard let time, range.contains(time) else {
            let low = Quantity.text(nanoseconds: range.lowerBound)
            let high = Quantity.text(nanoseconds: range.upperBound)
            throw refused("a time from \(low) to \(high), such as \"50ms\" or 50*ms")
        }
        return time
    }

    /// The value as a number in `range`.
    func number(_ range: ClosedRange<Double>) throws(ConfigError) -> Double {
        let number: Double? =
            switch value {
            case .integer(let number): Double(number)
            case .number(let number): number
            // Double() would ignore what follows a NUL.
            case .string(let text): text.utf8.contains(0) ? nil : Double(text)
            default: nil
            }
        guard let number, range.contains(number) else {
            throw refused("a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// The values of a list, or the single value, each as a setting.
    var items: [Setting] {
        guard case .list(let values) = value else { return [self] }
        return values.map { Setting(key: key, value: $0, origin: origin) }
    }

    /// The entries of a table as settings, in the order of `names`; nil when the value is no table, or has other keys.
    func parts(named names: [String]) -> [Setting]? {
        guard case .table(let table) = value, table.keys.allSatisfy(names.contains) else {
            return nil
        }
        return names.compactMap { name in
            table[name].map { Setting(key: name, value: $0, origin: "\(origin): \(key)") }
        }
    }

    /// The value as one of the given words.
    func choice(_ choices: [String]) throws(ConfigError) -> String {
        guard case .string(let text) = value, choices.contains(text) else {
            throw refused("one of " + choices.map { "\"\($0)\"" }.joined(separator: ", "))
        }
        return text
    }

    /// The value as text that is not empty and has no NUL.
    func text() throws(ConfigError) -> String {
        guard case .string(let text) = value, !text.isEmpty, !text.contains("\0") else {
            throw refused("text that is not empty")
        }
        return text
    }
}
