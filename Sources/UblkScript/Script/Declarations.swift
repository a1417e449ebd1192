import CLua

/// The declarations of a script's load phase, as settings and compiled rules.
struct Declarations {
    /// The settings of `device{}`; empty when the script has none.
    var device: [Setting] = []
    /// The parameters of `params{}` with their defaults, by name.
    var parameters: [Setting] = []
    /// The rules, in file order.
    var rules: [Rule] = []
    /// The `backing{}` declarations, in file order.
    var backings: [BackingConfig] = []
    /// The label of each rule.
    var labels: [RuleLabel] = []
    /// The keys and values of each rule, as the script writes them.
    var ruleTexts: [String] = []
}

extension Script {
    /// Reads `device{}`, `params{}`, `backing{}` and `rule{}`.
    ///
    /// - Throws: the first declaration that is refused, with file and line. `device{}` is checked later, together with
    ///   the command line.
    func declarations() throws(ConfigError) -> Declarations {
        var result = Declarations()
        for index in 0..<(unsafe us_script_declaration_count(handle)) {
            guard let raw = unsafe us_script_declaration(handle, index) else { continue }
            let origin = unsafe "\(sourceName):\(raw.pointee.line)"
            let settings = unsafe Self.settings(
                raw.pointee.fields,
                raw.pointee.field_count,
                origin: origin
            )
            switch unsafe raw.pointee.kind {
            case US_DECLARES_DEVICE: result.device = settings
            case US_DECLARES_BACKING:
                result.backings.append(try BackingConfig(settings, origin: origin))
            case US_DECLARES_PARAMS: result.parameters = try Self.parameters(settings)
            default:
                let number = result.rules.count + 1
                let rule = try unsafe Rule(
                    settings,
                    line: raw.pointee.line,
                    origin: origin,
                    names: RuleNames(shared: shared, rule: number, bank: bank),
                    makeRanges: {
                        shared.ruleRanges(
                            number,
                            bank: bank,
                            offset: $0,
                            length: $1,
                            isKept: goesOn
                        )
                    }
                )
                result.rules.append(rule)
                result.ruleTexts.append(
                    settings.map { "\($0.key) = \(Setting.describe($0.value))" }
                        .joined(separator: ", ")
                )
                let name = try settings.first { $0.key == "name" }.map(Rule.name)
                var trigger = try settings.first { $0.key == "trigger" }.map(Rule.trigger)
                if let path = trigger { trigger = resolve(path) }
                result.labels.append(
                    RuleLabel(
                        line: rule.line,
                        name: name ?? "",
                        trigger: trigger,
                        script: sourceShortName,
                        number: number
                    )
                )
            }
        }
        guard result.rules.count(where: \.heals) <= RuleSet.healRulesMax else {
            throw ConfigError(
                origin: sourceName,
                text:
                    "more than \(RuleSet.healRulesMax) rules with heal = true: put their ranges in one set"
            )
        }
        return result
    }

    /// Refuses parameters named as a key of `device{}`: on the command line `key=value` can mean only one of them.
    private static func parameters(_ settings: [Setting]) throws(ConfigError) -> [Setting] {
        for setting in settings where DeviceConfig.keys.contains(setting.key) {
            throw ConfigError(
                origin: setting.origin,
                text: "params: \(setting.key) is a key of device{}: choose another name"
            )
        }
        return settings
    }

    private static func settings(
        _ fields: UnsafePointer<us_field>?,
        _ count: Int,
        origin: String
    ) -> [Setting] {
        guard let fields = unsafe fields else { return [] }
        return (0..<count).map { index in
            let field = unsafe fields[index]
            let key = unsafe String(cString: field.key)
            let setting = unsafe Setting(
                key: key.isEmpty ? "[\(index + 1)]" : key,
                value: value(field),
                origin: origin
            )
            return setting
        }
    }

    private static func value(_ field: us_field) -> Setting.Value {
        switch unsafe field.type {
        case US_FIELD_BOOL: return unsafe .bool(field.integer != 0)
        case US_FIELD_INTEGER: return unsafe .integer(field.integer)
        case US_FIELD_NUMBER: return unsafe .number(field.number)
        case US_FIELD_RANGES: return unsafe .ranges(UInt(bitPattern: field.ranges))
        case US_FIELD_DIST: return unsafe .dist(UInt(bitPattern: field.dist))
        case US_FIELD_BUCKET: return unsafe .bucket(UInt(bitPattern: field.bucket))
        case US_FIELD_VERDICT:
            return unsafe .verdict(
                UInt(bitPattern: field.verdict),
                dist: UInt(bitPattern: field.dist)
            )
        case US_FIELD_BACKING: return unsafe .backing(Int(field.integer))
        case US_FIELD_TABLE: return unsafe table(field.fields, field.field_count)
        default:
            let bytes = unsafe UnsafeRawBufferPointer(start: field.string, count: field.length)
            return unsafe .string(String(decoding: bytes, as: UTF8.self))
        }
    }

    private static func table(_ fields: UnsafePointer<us_field>?, _ count: Int) -> Setting.Value {
        guard let fields = unsafe fields else { return .list([]) }
        var items: [Setting.Value] = []
        var named: [String: Setting.Value] = [:]
        for index in 0..<count {
            let field = unsafe fields[index]
            let key = unsafe String(cString: field.key)
            if key.isEmpty {
                items.append(unsafe value(field))
            } else {
                named[key] = unsafe value(field)
            }
        }
        return named.isEmpty ? .list(items) : .table(named)
    }
}
