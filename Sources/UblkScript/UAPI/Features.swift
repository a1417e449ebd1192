/// What a driver offers and a device has negotiated.
///
/// C: `UBLK_F_*`; the kernel named is the first with it.
struct Features: OptionSet, Hashable, Sendable {
    let rawValue: UInt64

    /// The driver lends the pages of requests instead of copying them; from 6.15.
    static let supportZeroCopy = Features(rawValue: 1 << 0)
    /// Always set by the driver.
    static let completeInTask = Features(rawValue: 1 << 1)
    /// The driver announces a write before it copies the data; from 6.0.
    static let needGetData = Features(rawValue: 1 << 2)
    /// The device outlives its server; from 6.1.
    static let userRecovery = Features(rawValue: 1 << 3)
    /// The next server gets again what the dead one had not answered; from 6.1, with `userRecovery`.
    static let userRecoveryReissue = Features(rawValue: 1 << 4)
    static let unprivilegedDevice = Features(rawValue: 1 << 5)
    /// Commands are ioctl-style codes; always set by drivers that know them.
    static let ioctlEncode = Features(rawValue: 1 << 6)
    /// The server copies data itself; from 6.5.
    static let userCopy = Features(rawValue: 1 << 7)
    static let zoned = Features(rawValue: 1 << 8)
    /// IO fails while there is no server; from 6.13, with `userRecovery`.
    static let userRecoveryFailIO = Features(rawValue: 1 << 9)
    /// There is UPDATE_SIZE; from 6.16.
    static let updateSize = Features(rawValue: 1 << 10)
    /// The driver registers the pages of requests with the server's ring; from 6.16.
    static let autoBufferRegistration = Features(rawValue: 1 << 11)
    /// There is QUIESCE_DEV for the device; from 6.16, with `userRecovery`.
    static let quiesce = Features(rawValue: 1 << 12)
    /// One command fetches or commits many tags; from 7.0.
    static let batchIO = Features(rawValue: 1 << 15)
    /// There is TRY_STOP_DEV; from 7.0.
    static let safeStop = Features(rawValue: 1 << 17)
    /// START_DEV does not scan for partitions; from 7.0.
    static let noAutoPartitionScan = Features(rawValue: 1 << 18)
    /// There is REG_BUF for the device: memory that programs and the server share; from 7.1.
    static let sharedMemory = Features(rawValue: 1 << 19)
    /// The server says how far apart the io descriptors are; from 7.3.
    static let ioDescriptorSize = Features(rawValue: 1 << 20)

    /// The set bits that this program knows, lowest first.
    var known: [Feature] {
        Feature.all.enumerated().filter { rawValue & 1 << UInt64($0.offset) != 0 }.map(\.element)
    }

    /// Each set bit with its name; a bit this program does not know is `UNKNOWN_n`.
    var named: [(name: String, bit: UInt64)] {
        (0..<64).compactMap { position in
            let bit = UInt64(1) << UInt64(position)
            guard rawValue & bit != 0 else { return nil }
            let name =
                position < Feature.all.count ? Feature.all[position].name : "UNKNOWN_\(position)"
            return (name, bit)
        }
    }
}
