/// A ``ControlReport`` as text, and as JSON.
extension ControlReport: Encodable {
    var text: String {
        switch self {
        case .rules(let rules): rules.map(Self.line).joined(separator: "\n")
        case .sets(let sets):
            sets.map { "\($0.name): \($0.ranges) ranges, \($0.bytes) bytes" }
                .joined(separator: "\n")
        case .extents(let extents, let more):
            (extents.map { "\($0.offset) \($0.length)" }
                + (more > 0 ? ["... and \(more) more"] : [])).joined(separator: "\n")
        case .held(let held): held.map(\.text).joined(separator: "\n")
        case .released(let count): "released \(count)"
        case .values(let values): values.last?.text ?? ""
        case .nothing: ""
        case .script(let text): text
        }
    }

    private static func line(_ rule: RuleReport) -> String {
        "line \(rule.line)\(rule.name.map { " " + $0 } ?? ""): \(rule.isOn ? "on" : "off"), "
            + "acted \(rule.acted) times"
    }

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(_ name: String) { stringValue = name }
        init?(stringValue: String) { self.init(stringValue) }
        init?(intValue: Int) { nil }
    }

    func encode(to encoder: any Encoder) throws {
        switch self {
        case .rules(let rules): return try rules.encode(to: encoder)
        case .sets(let sets): return try sets.encode(to: encoder)
        case .held(let held): return try held.encode(to: encoder)
        default: break
        }
        var fields = encoder.container(keyedBy: Key.self)
        switch self {
        case .extents(let extents, let more):
            try fields.encode(extents, forKey: Key("extents"))
            try fields.encode(more, forKey: Key("more"))
        case .released(let count): try fields.encode(count, forKey: Key("released"))
        case .values(let values):
            for value in values {
                switch value.content {
                case .number(let number): try fields.encode(number, forKey: Key(value.name))
                case .text(let text): try fields.encode(text, forKey: Key(value.name))
                }
            }
        default: break
        }
    }
}

extension ControlReport.Value {
    fileprivate var text: String {
        switch content {
        case .number(let number): "\(number)"
        case .text(let text): text
        }
    }
}

extension HeldReport {
    var text: String {
        "\(queue):\(tag) io \(io) \(operation) \(offset)+\(length)\(isPaused ? " paused" : "")"
    }
}
