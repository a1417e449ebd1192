/// The way in which the data of an IO gets from the driver to the server and back.
enum DataMode: String, Sendable, CaseIterable {
    /// The driver copies: a write's data to the server before it hands the request over, a read's at the commit.
    case copy
    /// The driver copies, too, but a write's data only when the server has said, for each write, where it is to go.
    case needGetData = "need_get_data"
    /// As ``copy``, with one command for the results of many tags, and one that stays and brings tags.
    case batch
    /// The server copies, when and if it needs the data: pread and pwrite on `/dev/ublkcN`.
    case userCopy = "user_copy"
    /// As ``userCopy``, but where an IO goes to files only, the server has the driver lend the pages of the request to
    /// its ring, and files read and write them.
    case zeroCopy = "zero_copy"
    /// The same, but the driver lends the pages of every request by itself, before the server hears of it.
    case autoBuf = "auto_buf"
    /// As ``userCopy``, but programs can map memory of the server's, and what they read and write there is not copied.
    case sharedMemory = "shared_memory"

    /// What a device of this mode asks of the driver.
    var features: Features {
        switch self {
        case .copy: []
        case .needGetData: .needGetData
        case .batch: .batchIO
        case .userCopy: .userCopy
        case .zeroCopy: [.userCopy, .supportZeroCopy]
        case .autoBuf: [.userCopy, .supportZeroCopy, .autoBufferRegistration]
        case .sharedMemory: [.userCopy, .sharedMemory]
        }
    }

    /// The server has data copied while it works on an IO; otherwise the driver does it before and after.
    var serverCopies: Bool { features.contains(.userCopy) }

    /// Tags are fetched and committed many at a time.
    var isBatched: Bool { features.contains(.batchIO) }

    /// Files can read and write the pages of requests.
    var lendsPages: Bool { features.contains(.supportZeroCopy) }

    /// The driver lends them unasked.
    var lendsUnasked: Bool { features.contains(.autoBufferRegistration) }

    /// The server has memory for programs to map.
    var sharesMemory: Bool { features.contains(.sharedMemory) }

    /// The mode of a device with these features; nil: one that this program does not serve.
    init?(_ granted: Features) {
        let wanted = Self.allCases.reduce(into: Features()) { $0.formUnion($1.features) }
            .intersection(granted)
        guard let mode = Self.allCases.first(where: { $0.features == wanted }) else { return nil }
        self = mode
    }
}
