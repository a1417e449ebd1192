@testable import UblkScript

/// Shorthand for settings as `device{}`, `rule{}` and the command line give them.
extension Setting {
    static func test(_ key: String, _ value: Value, origin: String = "test.lua:3") -> Setting {
        Setting(key: key, value: value, origin: origin)
    }
}

extension Setting.Value: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByFloatLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(floatLiteral value: Double) { self = .number(value) }
}

/// Runs `body`; the refusal it throws, nil when it throws none.
func refusal(_ body: () throws(ConfigError) -> Void) -> ConfigError? {
    do throws(ConfigError) {
        try body()
        return nil
    } catch { return error }
}
