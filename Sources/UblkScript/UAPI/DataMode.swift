/// The way in which the data of an IO gets from the driver to the server and back.
enum DataMode: String, Sendable, CaseIterable {
    /// The driver copies: a write's data to the server before it hands the request over, a read's at the commit.
    case copy
    /// The server copies, when and if it needs the data: pread and pwrite on `/dev/ublkcN`.
    case userCopy = "user_copy"
    /// The driver lends the pages of a request to the server's ring, and files read and write them; other data is
    /// copied by the server.
    case zeroCopy = "zero_copy"

    /// What a device of this mode asks of the driver.
    var features: Features {
        switch self {
        case .copy: []
        case .userCopy: .userCopy
        case .zeroCopy: [.userCopy, .supportZeroCopy, .autoBufferRegistration]
        }
    }

    /// The mode of a device with these features; nil: one that this program does not serve.
    init?(_ granted: Features) {
        let wanted = granted.intersection(Self.zeroCopy.features)
        guard let mode = Self.allCases.first(where: { $0.features == wanted }) else { return nil }
        self = mode
    }
}
