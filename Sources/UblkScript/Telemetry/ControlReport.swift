/// A rule with its state and its count of acts.
struct RuleReport: Codable, Equatable, Sendable {
    let line: Int32
    /// The rule's name; nil: it has none.
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

/// A stretch of consecutive bytes of a device.
struct ExtentReport: Codable, Equatable, Sendable {
    let offset: UInt64
    let length: UInt64
}

/// An IO that is held.
struct HeldReport: Codable, Equatable, Sendable {
    let queue: UInt16
    let tag: UInt16
    /// Number of the IO, counted by its queue.
    let io: UInt64
    let operation: String
    let offset: UInt64
    let length: UInt64
    /// True when the IO is undecided and waits for `resume`; otherwise it waits for `release`.
    let isPaused: Bool
}

/// What a queue tells when it was asked something.
///
/// Values, not texts: `Admin/ControlReport+Text.swift` makes text of them for people and JSON for programs. Any thread.
enum ControlReport: Equatable, Sendable {
    case rules([RuleReport])
    case sets([RangesReport])
    /// The first extents of a set, and the number of those left out.
    case extents([ExtentReport], more: Int)
    case held([HeldReport])
    case released(Int)
    /// Values with names; people are told the last one.
    case values([Value])
    case nothing
    /// What the script's `ctl` returned, as Lua has written it: text or, when that was asked for, a JSON array.
    case script(String)

    struct Value: Equatable, Sendable {
        enum Content: Equatable, Sendable {
            case number(UInt64)
            case text(String)
        }
        let name: String
        let content: Content
    }

    static func number(_ name: String, _ number: UInt64) -> ControlReport {
        .values([Value(name: name, content: .number(number))])
    }

    static func mark(_ name: String, times: UInt64) -> ControlReport {
        .values([
            Value(name: "mark", content: .text(name)),
            Value(name: "times", content: .number(times)),
        ])
    }

    static func state(_ name: String) -> ControlReport {
        .values([Value(name: "state", content: .text(name))])
    }

    static func seed(_ seed: UInt64) -> ControlReport { .number("seed", seed) }

    /// This and what another queue told of the same request.
    func adding(_ other: ControlReport) -> ControlReport {
        switch (self, other) {
        case (.held(let some), .held(let others)): .held(some + others)
        case (.released(let some), .released(let others)): .released(some + others)
        default: self
        }
    }
}
