/// One `backing{}` of a script, checked: a further store, which `to(offset, backing)` names.
///
/// Its number is its index in ``DeviceConfig/backings`` plus 1; 0 is the device's own store.
struct BackingConfig: Sendable, Equatable {
    /// Path of the file; nil: in memory.
    var file: String?
    /// Size in bytes; nil: the size of ``file``.
    var sizeBytes: UInt64?
    /// Devices of other servers may have the file, too.
    var isShared = false
    /// File and line of the declaration.
    let origin: String

    /// True when all is the same but the origin, which does not matter.
    func isSame(as other: BackingConfig) -> Bool {
        file == other.file && sizeBytes == other.sizeBytes && isShared == other.isShared
    }

    static let keys = ["size", "file", "shared"]

    init(_ settings: [Setting], origin: String) throws(ConfigError) {
        self.origin = origin
        for setting in settings {
            switch setting.key {
            case "size": sizeBytes = try setting.bytes(512...DeviceConfig.sizeMax)
            case "file": file = try setting.text()
            case "shared": isShared = try setting.bool()
            default:
                throw ConfigError(
                    origin: origin,
                    text: "backing has no key \"\(setting.key)\". It has: "
                        + Self.keys.joined(separator: ", ")
                )
            }
        }
        if isShared, file == nil {
            throw ConfigError(
                origin: origin,
                text: "shared = true is for a file: backing { file = \"b.img\", shared = true }"
            )
        }
        if file == nil, sizeBytes == nil {
            throw ConfigError(
                origin: origin,
                text: "backing needs a size, as in backing { size = \"1G\" }, or a file"
            )
        }
    }
}
