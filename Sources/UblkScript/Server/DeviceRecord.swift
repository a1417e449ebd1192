/// The record of a device in the state directory, as JSON: what the driver does not know of it.
///
/// Written before the queues come up, removed when the device is deleted. With the script's text beside it, it has all
/// that is needed to serve the device again. Keys that a later format added may be missing; a record of a format newer
/// than ``newestFormat`` is not read, as its keys may mean something else.
struct DeviceRecord: Codable, Sendable, Equatable {
    static let newestFormat = 2

    /// Version of the format; nil: the first one, which had no such key.
    var format: Int? = newestFormat
    var id: UInt32
    var serverPID: Int32
    /// ``DeviceInfo/cookie`` of the device this record is about.
    var cookie: UInt64
    /// Absolute path of the script, or the name of a shipped one, or a description of another source.
    var script: String
    /// Kind of ``script``; nil in the first format, where it is a file or a shipped script.
    var origin: ScriptSource.Origin?
    /// Absolute path of a copy of the script's text as it was loaded, whatever has become of its file.
    ///
    /// nil in a record of an older server.
    var loadedScript: String?
    /// `memory`, `null` or `file`.
    var backing: String
    /// Absolute path of the backing file.
    var file: String?
    /// Devices of other servers may have the file, too; nil: they may not.
    var isShared: Bool?
    var sizeBytes: UInt64
    var logicalBlockBytes: UInt32
    /// Seed of all random choices; the same seed gives the same faults.
    var seed: UInt64
    /// The settings of the command line.
    var settings: [String]
    /// Folder to which the script's relative paths are relative; nil in records of older versions.
    var directory: String?
    /// Parameters of the driver; nil in the first format.
    var driver: Driver?
    /// ``DataMode`` of the device, and why it has that one; nil in records of older servers.
    var data: String?
    var dataReason: String?
    /// The file of ``SharedMemory``, for programs to map; nil: there is none.
    var sharedMemory: String?
    /// Absolute path of the ledger file; nil: none.
    var ledgerFile: String?
    /// ``DeviceServer/Request/patienceSeconds``; nil in the first format.
    var patienceSeconds: Int?
    /// Another server is started when one dies; nil: none is.
    var restarts: Bool?

    /// What the driver granted in ADD_DEV, and was told in SET_PARAMS.
    struct Driver: Codable, Sendable, Equatable {
        var queues: UInt16
        var depth: UInt16
        var maxIOBytes: UInt32
        /// Raw value of the granted ``Features``.
        var features: UInt64
        /// The argument of SET_PARAMS.
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

/// What a server leaves in the state directory for whoever serves its device again.
struct StoredRecord: Sendable {
    /// The encoded ``DeviceRecord``.
    var json: [UInt8]
    /// The text of ``DeviceRecord/loadedScript``.
    var script: [UInt8]
    /// ``LoadedScript/Plan/bank``, for its name: a reload takes the other one.
    var bank: Int
}
