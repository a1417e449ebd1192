/// The way in which the data of an IO gets from the driver to the server and back.
enum DataMode: String, Sendable, CaseIterable {
    /// The driver copies: a write's data to the server before it hands the request over, a read's at the commit.
    case copy
    /// The server copies, when and if it needs the data: pread and pwrite on `/dev/ublkcN`.
    case userCopy = "user_copy"

    /// What a device of this mode asks of the driver.
    var features: Features {
        switch self {
        case .copy: []
        case .userCopy: .userCopy
        }
    }

    /// The mode of a device with these features; nil: one that this program does not serve.
    init?(_ granted: Features) {
        guard granted.isDisjoint(with: [.supportZeroCopy, .autoBufferRegistration]) else {
            return nil
        }
        self = granted.contains(.userCopy) ? .userCopy : .copy
    }
}
