/// The small numbers of the protocol, each its own type so that none is taken for another.

/// One slot of a queue: 0 ..< depth.
///
/// At most one request at a time lives in it.
struct Tag: Hashable, Sendable {
    let rawValue: UInt16
    init(_ rawValue: UInt16) { self.rawValue = rawValue }
    /// The tag as an index into per-tag tables.
    var index: Int { Int(rawValue) }
}

/// One hardware queue of a device: 0 ..< queues.
struct QueueID: Hashable, Sendable {
    let rawValue: UInt16
    init(_ rawValue: UInt16) { self.rawValue = rawValue }
    var index: Int { Int(rawValue) }
}

/// The N of `/dev/ublkbN`.
struct DeviceID: Hashable, Sendable, CustomStringConvertible {
    /// The driver's limit: `UBLK_MINORS`.
    static let maximum: UInt32 = (1 << 20) - 1

    let rawValue: UInt32
    init(_ rawValue: UInt32) { self.rawValue = rawValue }

    var blockPath: String { "/dev/ublkb\(rawValue)" }
    var characterPath: String { "/dev/ublkc\(rawValue)" }
    /// As it stands in front of a command's payload, with its NUL.
    var characterPathBytes: [UInt8] { Array(characterPath.utf8) + [0] }
    var description: String { "\(rawValue)" }

    /// Reads `0`, `ublkb0`, `ublkc0` or their paths in `/dev`; nil for anything else or an id past ``maximum``.
    init?(parsing text: String) {
        var digits = Substring(text)
        for prefix in ["ublkb", "ublkc", "/dev/ublkb", "/dev/ublkc"] where text.hasPrefix(prefix) {
            digits = text.dropFirst(prefix.count)
        }
        guard !digits.isEmpty, digits.allSatisfy({ ("0"..."9").contains($0) }),
            let number = UInt32(digits), number <= Self.maximum
        else { return nil }
        rawValue = number
    }
}
