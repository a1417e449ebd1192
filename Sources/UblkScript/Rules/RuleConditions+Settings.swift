import CLua

/// Reads the conditions from the keys of a `rule{}`.
extension RuleConditions {
    static let keys = [
        "flags", "len", "align", "queue", "tag", "depth", "window", "after", "before", "state",
        "content",
    ]

    /// The flags that scripts can name, with their bits of ``us_io/flags``.
    static let flagBits: [(name: String, bits: UInt32)] = {
        var flags: [(name: String, bits: UInt32)] = []
        while let flag = unsafe us_flag_at(flags.count) {
            unsafe flags.append((String(cString: flag.pointee.word), flag.pointee.bits))
        }
        return flags
    }()

    /// Takes a setting whose key is one of ``keys``; false for any other.
    mutating func read(_ setting: Setting, _ names: RuleNames) throws(ConfigError) -> Bool {
        switch setting.key {
        case "flags": try readFlags(setting)
        case "len": try readLength(setting)
        case "align": alignBytes = try setting.bytes(512...DeviceConfig.sizeMax)
        case "queue": queue = Int32(try setting.integer(0...Int64(DeviceInfo.queuesMax) - 1))
        case "tag": tag = Int32(try setting.integer(0...Int64(DeviceInfo.depthMax) - 1))
        case "depth": depth = Int(try setting.integer(1...Int64(DeviceInfo.depthMax)))
        case "window": window = try Self.window(setting)
        case "after": after = try Self.limit(setting, names)
        case "before": before = try Self.limit(setting, names)
        case "state": try readState(setting, names)
        case "content": content = try Self.content(setting)
        default: return false
        }
        return true
    }

    private mutating func readFlags(_ setting: Setting) throws(ConfigError) {
        for item in setting.items {
            guard case .string(let text) = item.value,
                let flag = Self.flagBits.first(where: { text == $0.name || text == "!" + $0.name })
            else {
                throw setting.refused(
                    "one of \(Self.flagBits.map(\.name).joined(separator: ", ")), with ! before it for its absence, "
                        + "or a list of them"
                )
            }
            if text.hasPrefix("!") { flagsClear |= flag.bits } else { flagsSet |= flag.bits }
        }
        guard flagsSet & flagsClear == 0 else {
            throw setting.refused("no flag both with and without !")
        }
    }

    private mutating func readLength(_ setting: Setting) throws(ConfigError) {
        let sizes = setting.items
        guard sizes.count == 1 || sizes.count == 2 else {
            throw setting.refused("a size, or { least, most }")
        }
        lengthMin = try sizes[0].bytes(0...DeviceConfig.sizeMax)
        lengthMax = try sizes[sizes.count - 1].bytes(0...DeviceConfig.sizeMax)
        guard lengthMin <= lengthMax else { throw setting.refused("{ least, most } in that order") }
    }

    private mutating func readState(_ setting: Setting, _ names: RuleNames) throws(ConfigError) {
        state = try names.cell(US_CELL_STATE, "", setting)
        stateNumber = try names.state(setting)
    }

    private static func window(_ setting: Setting) throws(ConfigError) -> Window {
        var window = Window()
        let expected = "{ from = \"5s\", to = \"10s\", period = \"1min\" }, or less of it"
        guard let parts = setting.parts(named: ["from", "to", "period"]) else {
            throw setting.refused(expected)
        }
        for part in parts {
            let least: UInt64 = part.key == "period" ? 1 : 0
            let time = try part.nanoseconds(least...Rule.timeMax)
            switch part.key {
            case "from": window.from = time
            case "to": window.to = time
            default: window.period = time
            }
        }
        let end = window.period == 0 ? UInt64.max : window.period
        guard window.from < window.to, window.from < end, window.to == .max || window.to <= end
        else {
            throw setting.refused("from < to, both within the period")
        }
        return window
    }

    private static func limit(_ setting: Setting, _ names: RuleNames) throws(ConfigError) -> Limit {
        var limit = Limit()
        switch setting.value {
        case .string, .integer:
            limit.time = try setting.nanoseconds(0...Rule.timeMax)
            return limit
        default: break
        }
        guard let parts = setting.parts(named: ["time", "ops", "bytes", "mark"]) else {
            throw setting.refused("a time, or a table with time, ops, bytes or mark")
        }
        for part in parts {
            switch part.key {
            case "time": limit.time = try part.nanoseconds(0...Rule.timeMax)
            case "ops": limit.ops = UInt64(try part.integer(0...Int64.max))
            case "bytes": limit.bytes = try part.bytes(0...UInt64(Int64.max))
            default:
                limit.mark = try names.cell(US_CELL_MARK, try part.name(), part)
            }
        }
        return limit
    }

    private static func content(_ setting: Setting) throws(ConfigError) -> Content {
        if case .string("zero") = setting.value { return .zero }
        let refusal = setting.refused(
            "\"zero\", { at = 0, hex = \"53ef\" } with 1 to \(Content.bytesMax) bytes, or { hash = NUMBER }"
        )
        if let parts = setting.parts(named: ["hash"]), let part = parts.first {
            return .hash(UInt64(bitPattern: try part.integer(Int64.min...Int64.max)))
        }
        guard let parts = setting.parts(named: ["at", "hex"]) else { throw refusal }
        var offset: UInt64 = 0
        var bytes: [UInt8] = []
        for part in parts {
            if part.key == "at" {
                offset = try part.bytes(0...(1 << 30))
            } else {
                guard let parsed = Quantity.hexBytes(try part.text()) else { throw refusal }
                bytes = parsed
            }
        }
        guard (1...Content.bytesMax).contains(bytes.count) else { throw refusal }
        var words: (UInt64, UInt64) = (0, 0)
        for (index, byte) in bytes.enumerated() {
            let bits = UInt64(byte) << UInt64(index % 8 * 8)
            if index < 8 { words.0 |= bits } else { words.1 |= bits }
        }
        return .bytes(offset: offset, count: bytes.count, low: words.0, high: words.1)
    }
}

/// Resolves the names in a rule: finds or makes the shared object of that name.
struct RuleNames {
    let shared: SharedObjects
    /// The rule's number in the script, from 1.
    let rule: Int
    /// ``Script/Options/bank`` of the script.
    var bank = 0

    func cell(
        _ kind: us_cell_kind,
        _ name: String,
        _ setting: Setting
    ) throws(ConfigError) -> Cell {
        guard let cell = shared.cell(kind, name) else {
            throw setting.refused("one of at most \(US_OBJECTS_MAX) names, and memory for it,")
        }
        return cell
    }

    /// The number of the state that the setting names.
    func state(_ setting: Setting) throws(ConfigError) -> Int64 {
        Int64(try cell(US_CELL_STATE_NAME, try setting.name(), setting).number)
    }
}
