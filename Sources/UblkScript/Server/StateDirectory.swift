import Glibc
import SystemPackage

/// What is known about a device beyond what the driver tells: written when it comes up, removed
/// when it is deleted.
struct DeviceRecord: Codable, Sendable, Equatable {
    var id: UInt32
    var serverPID: Int32
    /// ``DeviceInfo/cookie`` of the device this record is about.
    var cookie: UInt64
    /// Absolute path of the script.
    var script: String
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
}

/// `/run/ublk-script`: a record, an admin socket and a log per device.
///
/// The record is the mark of ownership: a device without one is not ours. It is written to a
/// temporary name and renamed, so that a reader never sees half of it.
struct StateDirectory: Sendable {
    static let standard = StateDirectory(path: "/run/ublk-script")

    let path: String

    func recordPath(_ id: DeviceID) -> String { "\(path)/\(id).json" }
    func socketPath(_ id: DeviceID) -> String { "\(path)/\(id).sock" }
    func logPath(_ id: DeviceID) -> String { "\(path)/\(id).log" }

    /// Makes the directory when it is not there.
    func create() throws(DeviceError) {
        guard unsafe mkdir(path, 0o755) != 0, Glibc.errno != EEXIST else { return }
        throw .system(call: "mkdir", path: path, Errno(rawValue: Glibc.errno))
    }

    /// - Parameter json: the encoded ``DeviceRecord``.
    func writeRecord(_ json: [UInt8], of id: DeviceID) throws(DeviceError) {
        let temporary = "\(path)/.\(id).json.tmp"
        let fd = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard fd >= 0 else {
            throw .system(call: "create", path: temporary, Errno(rawValue: Glibc.errno))
        }
        let written = unsafe json.withUnsafeBytes { unsafe write(fd, $0.baseAddress, $0.count) }
        // A write that fell short is a full disk that has not said so yet.
        var errno =
            written == json.count ? nil : written < 0 ? Errno(rawValue: Glibc.errno) : .noSpace
        if close(fd) != 0, errno == nil { errno = Errno(rawValue: Glibc.errno) }
        if errno == nil, unsafe rename(temporary, recordPath(id)) != 0 {
            errno = Errno(rawValue: Glibc.errno)
        }
        guard let errno else { return }
        unsafe unlink(temporary)
        throw .system(call: "write", path: recordPath(id), errno)
    }

    func readRecord(_ id: DeviceID) -> [UInt8]? {
        let fd = unsafe open(recordPath(id), O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let got = unsafe bytes.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        return got > 0 ? Array(bytes.prefix(got)) : nil
    }

    /// Takes away everything that is left of a deleted device.
    func remove(_ id: DeviceID) {
        for path in [recordPath(id), socketPath(id), logPath(id), logPath(id) + ".1"] {
            unsafe unlink(path)
        }
    }

    /// Ids with a record, in order.
    func recordedIDs() -> [DeviceID] {
        DirectoryListing.names(path)
            .compactMap { name in
                name.hasSuffix(".json") ? DeviceID(parsing: String(name.dropLast(5))) : nil
            }
            .sorted { $0.rawValue < $1.rawValue }
    }
}

/// Names in a directory, without Foundation.
enum DirectoryListing {
    /// Empty when it cannot be read.
    static func names(_ path: String) -> [String] {
        guard let directory = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
