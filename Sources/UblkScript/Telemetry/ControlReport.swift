/// A rule, and what it did.
struct RuleReport: Codable, Equatable, Sendable {
    let line: Int32
    /// nil: it has none.
    var name: String?
    let isOn: Bool
    let acted: UInt64
}

/// A named set of ranges.
struct RangesReport: Codable, Equatable, Sendable {
    let name: String
    let ranges: UInt64
    let bytes: UInt64
}

/// A piece of a device.
struct ExtentReport: Codable, Equatable, Sendable {
    let offset: UInt64
    let length: UInt64
}

/// An IO that is held.
struct HeldReport: Codable, Equatable, Sendable {
    let queue: UInt16
    let tag: UInt16
    /// Its number among the queue's IOs.
    let io: UInt64
    let operation: String
    let offset: UInt64
    let length: UInt64
    /// It waits for `resume`, undecided; else for `release`.
    let isPaused: Bool

    var text: String {
        "\(queue):\(tag) io \(io) \(operation) \(offset)+\(length)\(isPaused ? " paused" : "")"
    }
}

/// What a built-in word of `ctl` tells: as text for people, or encoded for programs.
///
/// Values; any thread.
enum ControlReport: Encodable, Equatable, Sendable {
    case rules([RuleReport])
    case sets([RangesReport])
    /// The first of a set, and how many more there are.
    case extents([ExtentReport], more: Int)
    case held([HeldReport])
    case mark(String, times: UInt64)
    case state(String)
    case seed(UInt64)
    case released(Int)
    case nothing
    /// What the script's `ctl` returned, as text or, when that was asked for, a JSON array.
    case script(String)

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
        case .mark(_, let times): "\(times)"
        case .state(let name): name
        case .seed(let seed): "\(seed)"
        case .released(let count): "released \(count)"
        case .nothing: ""
        case .script(let text): text
        }
    }

    private static func line(_ rule: RuleReport) -> String {
        "line \(rule.line)\(rule.name.map { " " + $0 } ?? ""): \(rule.isOn ? "on" : "off"), "
            + "acted \(rule.acted) times"
    }

    private enum Key: String, CodingKey {
        case mark, times, state, seed, released, extents, more
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
            try fields.encode(extents, forKey: .extents)
            try fields.encode(more, forKey: .more)
        case .mark(let name, let times):
            try fields.encode(name, forKey: .mark)
            try fields.encode(times, forKey: .times)
        case .state(let name): try fields.encode(name, forKey: .state)
        case .seed(let seed): try fields.encode(seed, forKey: .seed)
        case .released(let count): try fields.encode(count, forKey: .released)
        default: break
        }
    }
}

/// What came of a word.
struct ControlAnswer: Sendable, Equatable {
    let isOK: Bool
    let text: String
    /// What the text says; nil of what failed.
    var report: ControlReport?

    init(isOK: Bool, text: String) {
        self.isOK = isOK
        self.text = text
    }

    init(_ report: ControlReport) {
        isOK = true
        text = report.text
        self.report = report
    }
}
