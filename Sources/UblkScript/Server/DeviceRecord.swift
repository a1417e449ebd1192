/// What is known about a device beyond what the driver tells: written before its queues come up, removed
/// when it is deleted.
///
/// It has all that serving the device again takes, but for the text of a script that was neither a file nor
/// shipped. A record without what a later format added is read all the same; one of a format that is newer than
/// ``newestFormat`` is not, as the same names may mean something else there.
struct DeviceRecord: Codable, Sendable, Equatable {
    static let newestFormat = 2

    /// nil: the first one, which did not say so.
    var format: Int? = newestFormat
    var id: UInt32
    var serverPID: Int32
    /// ``DeviceInfo/cookie`` of the device this record is about.
    var cookie: UInt64
    /// Absolute path of the script; the name of a shipped one, or where another text came from.
    var script: String
    /// nil in a record of an older server: a file, or a shipped one.
    var origin: ScriptSource.Origin?
    /// `memory`, `null` or `file`.
    var backing: String
    /// Absolute path of the backing file.
    var file: String?
    var sizeBytes: UInt64
    var logicalBlockBytes: UInt32
    /// Of every random choice; the same seed gives the same faults.
    var seed: UInt64
    /// The settings of the command line.
    var settings: [String]
    /// What relative paths of the script are relative to; nil: an older version did not write it down.
    var directory: String?
    /// nil in the first format.
    var driver: Driver?
    /// Absolute path of the file that the ledger is written to, if there is one.
    var ledgerFile: String?
    /// ``DeviceServer/Request/patienceSeconds``; nil in the first format.
    var patienceSeconds: Int?

    /// What the driver has been told, and what it granted.
    struct Driver: Codable, Sendable, Equatable {
        var queues: UInt16
        var depth: UInt16
        var maxIOBytes: UInt32
        /// ``Features``.
        var features: UInt64
        /// All that SET_PARAMS said.
        var params: DeviceParams

        init(_ granted: DeviceInfo, _ params: DeviceParams) {
            queues = granted.queues
            depth = granted.depth
            maxIOBytes = granted.maxIOBytes
            features = granted.features.rawValue
            self.params = params
        }
    }
}
