import CUring
import Glibc
import SystemPackage

/// `/run/ublk-script`: the record, script, rules' counters, shared objects, stores in memory, control socket and log of
/// each device, and the mark of a recovery.
///
/// A user without root has a folder of his own for his devices, which nobody else can look into.
///
/// The record marks ownership: a device without one is not ours. It is written under a temporary name and renamed, so
/// that readers never see half of it. The script is written before the record that names it.
///
/// Records decide which processes and devices root kills and deletes, so the folder is used only while nobody else can
/// write to it (``check()``), and its files are never opened through a symbolic link. Any thread.
struct StateDirectory: Sendable {
    static let standard = of(
        geteuid(),
        runtimeFolder: unsafe getenv("XDG_RUNTIME_DIR").map { unsafe String(cString: $0) }
    )

    let path: String
    /// It is a user's own: nobody else may read it either.
    var isPrivate = false

    /// The folder of a user's devices.
    ///
    /// - Parameter runtimeFolder: `XDG_RUNTIME_DIR`, which a login sets.
    static func of(_ user: uid_t, runtimeFolder: String?) -> StateDirectory {
        guard user != 0 else { return StateDirectory(path: "/run/ublk-script") }
        let isGiven = runtimeFolder?.hasPrefix("/") ?? false
        let folder = isGiven ? runtimeFolder ?? "" : "/run/user/\(user)"
        return StateDirectory(path: folder + "/ublk-script", isPrivate: true)
    }

    func recordPath(_ id: DeviceID) -> String { "\(path)/\(id).json" }
    func socketPath(_ id: DeviceID) -> String { "\(path)/\(id).sock" }
    func logPath(_ id: DeviceID) -> String { "\(path)/\(id).log" }
    /// The ``RecoveryMark``.
    func markPath(_ id: DeviceID) -> String { "\(path)/\(id).recovering" }

    /// The text of the script as it was loaded.
    ///
    /// There are two names: a reload writes to the one that the record does not name.
    func scriptPath(_ id: DeviceID, bank: Int) -> String {
        "\(path)/\(id)\(bank == 0 ? "" : ".\(bank)").lua"
    }

    /// The ``RuleCounters`` of that script.
    func countersPath(_ id: DeviceID, bank: Int) -> String {
        "\(path)/\(id)\(bank == 0 ? "" : ".\(bank)").live"
    }

    /// The device's ``Cell``s.
    func cellsPath(_ id: DeviceID) -> String { "\(path)/\(id).cells" }
    /// The device's ``RangeJournal``.
    func journalPath(_ id: DeviceID) -> String { "\(path)/\(id).ranges" }

    /// A ``KeptStore`` of the device.
    func memoryPath(_ id: DeviceID, _ number: Int) -> String {
        "\(path)/\(id)\(number == 0 ? "" : ".\(number)").memory"
    }

    private func scriptPaths(_ id: DeviceID) -> [String] {
        [scriptPath(id, bank: 0), scriptPath(id, bank: 1)]
    }

    /// Makes the folder unless it exists, and checks it.
    func create() throws(DeviceError) {
        guard unsafe mkdir(path, isPrivate ? 0o700 : 0o755) == 0 || Glibc.errno == EEXIST else {
            let errno = Errno(rawValue: Glibc.errno)
            guard isPrivate else { throw .system(call: "mkdir", path: path, errno) }
            throw .unsupported(
                """
                mkdir \(path): \(errno) (\(errno.name)). What there is to know of your devices is kept there: a login \
                makes /run/user/\(geteuid()); without one, set XDG_RUNTIME_DIR to a folder that is yours alone
                """
            )
        }
        try check()
    }

    /// Refuses a folder that anybody but root and the caller may write to, and a user's that others may read; a missing
    /// one is fine.
    func check() throws(DeviceError) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else {
            let errno = Errno(rawValue: Glibc.errno)
            guard errno == .noSuchFileOrDirectory else {
                throw .system(call: "lstat", path: path, errno)
            }
            return
        }
        guard !isPrivate else { return try checkPrivate(status) }
        let isFolder = status.st_mode & S_IFMT == S_IFDIR
        let isOwn = status.st_uid == 0 || status.st_uid == geteuid()
        guard isFolder, isOwn, status.st_mode & (S_IWGRP | S_IWOTH) == 0 else {
            let mode = String(status.st_mode & 0o7777, radix: 8)
            throw .unsupported(
                """
                \(path) is not used: it has to be a folder of root's that nobody else may write to\
                 (\(isFolder ? "a folder" : "no folder"), owner \(status.st_uid), mode \(mode)).
                Find out who made it, and take it away or mend it: chown root \(path); chmod 755 \(path)
                """
            )
        }
    }

    private func checkPrivate(_ status: stat) throws(DeviceError) {
        let isFolder = status.st_mode & S_IFMT == S_IFDIR
        guard isFolder, status.st_uid == geteuid(), status.st_mode & 0o077 == 0 else {
            let mode = String(status.st_mode & 0o7777, radix: 8)
            throw .unsupported(
                """
                \(path) is not used: it has to be a folder of yours that nobody else may look into\
                 (\(isFolder ? "a folder" : "no folder"), owner \(status.st_uid), mode \(mode)).
                Take it away or mend it (chmod 700 \(path)), or set XDG_RUNTIME_DIR to a folder that is yours alone
                """
            )
        }
    }

    /// Creates a file, replacing whatever has its name, and opens it for appending.
    static func createFile(_ path: String, _ mode: mode_t) throws(DeviceError) -> Int32 {
        unsafe unlink(path)
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC
        let fd = unsafe open(path, flags, mode)
        guard fd >= 0 else {
            throw .system(call: "create", path: path, Errno(rawValue: Glibc.errno))
        }
        return fd
    }

    /// Writes the record of a device, or replaces it.
    ///
    /// - Parameter json: the encoded ``DeviceRecord``.
    func writeRecord(_ json: [UInt8], of id: DeviceID) throws(DeviceError) {
        try replace(recordPath(id), with: json, mode: 0o644)
    }

    /// Writes the script's text.
    ///
    /// Only root may read it, as the script's own file may have been readable by root only.
    func writeScript(_ text: [UInt8], of id: DeviceID, bank: Int) throws(DeviceError) {
        try replace(scriptPath(id, bank: bank), with: text, mode: 0o600)
    }

    private func replace(_ file: String, with bytes: [UInt8], mode: mode_t) throws(DeviceError) {
        let temporary = "\(path)/.\(file.dropFirst(path.utf8.count + 1)).tmp"
        let fd = try Self.createFile(temporary, mode)
        var errno = Self.write(bytes, to: fd)
        if close(fd) != 0, errno == nil { errno = Errno(rawValue: Glibc.errno) }
        if errno == nil, unsafe rename(temporary, file) != 0 {
            errno = Errno(rawValue: Glibc.errno)
        }
        guard let errno else { return }
        unsafe unlink(temporary)
        throw .system(call: "write", path: file, errno)
    }

    /// Writes all bytes.
    ///
    /// - Returns: why not all could be written; nil: all were.
    static func write(_ bytes: [UInt8], to fd: Int32) -> Errno? {
        var rest = bytes[...]
        // After a short write the next one returns the error: a full disk, or a limit.
        while !rest.isEmpty {
            let written = unsafe rest.withUnsafeBytes {
                unsafe Glibc.write(fd, $0.baseAddress, $0.count)
            }
            if written < 0, Glibc.errno == EINTR { continue }
            guard written > 0 else { return Errno(rawValue: Glibc.errno) }
            rest = rest.dropFirst(written)
        }
        return nil
    }

    func readRecord(_ id: DeviceID) -> [UInt8]? { Self.read(recordPath(id)) }

    /// nil: it cannot be read.
    private static func read(_ path: String) -> [UInt8]? {
        let fd = unsafe open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var status = stat()
        guard unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        // Nobody changes a file here, but replaces it.
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var filled = 0
        while filled < bytes.count {
            let got = unsafe bytes.withUnsafeMutableBytes {
                unsafe Glibc.read(fd, $0.baseAddress.map { unsafe $0 + filled }, $0.count - filled)
            }
            if got < 0, Glibc.errno == EINTR { continue }
            guard got > 0 else { return nil }
            filled += got
        }
        return bytes
    }

    /// Removes all files of a device.
    func remove(_ id: DeviceID) {
        let paths = [
            recordPath(id), socketPath(id), logPath(id), logPath(id) + ".1", markPath(id),
        ]
        let live = [
            countersPath(id, bank: 0), countersPath(id, bank: 1), cellsPath(id), journalPath(id),
            RangeJournal.nextPath(journalPath(id)),
        ]
        // One that cannot be removed stays, and the next device of this number replaces it.
        for path in paths + scriptPaths(id) + live { unsafe unlink(path) }
        removeMemory(of: id)
    }

    /// Gives back what the stores in memory have, which a device that is stopped can have no other server for.
    func removeMemory(of id: DeviceID) {
        for name in DirectoryListing.names(path)
        where name.hasPrefix("\(id).") && name.hasSuffix(".memory") {
            unsafe unlink("\(path)/\(name)")
        }
    }

    /// Removes the script that the record does not name any more, and its rules' counters.
    func removeScript(of id: DeviceID, otherThan bank: Int) {
        unsafe unlink(scriptPath(id, bank: 1 - bank))
        removeCounters(of: id, bank: 1 - bank)
    }

    func removeCounters(of id: DeviceID, bank: Int) {
        unsafe unlink(countersPath(id, bank: bank))
    }

    /// The files that a later process needs, kept in memory to be put back when DEL_DEV fails.
    struct Kept {
        fileprivate var record: [UInt8]?
        fileprivate var scripts: [[UInt8]?]
        fileprivate var markPID: Int32?
    }

    func copy(of id: DeviceID) -> Kept {
        Kept(
            record: readRecord(id),
            scripts: scriptPaths(id).map { Self.read($0) },
            markPID: markPID(of: id)
        )
    }

    /// Ignores errors, as a device without a record can still be deleted.
    func putBack(_ kept: Kept, of id: DeviceID) {
        if let pid = kept.markPID { _ = try? makeMark(pid: pid, of: id) }
        for (bank, text) in kept.scripts.enumerated() {
            if let text { try? writeScript(text, of: id, bank: bank) }
        }
        if let record = kept.record { try? writeRecord(record, of: id) }
    }

    // MARK: The mark of a recovery

    /// Makes a device's mark unless it has one.
    ///
    /// - Returns: the pid in the one that was there, 0 when that cannot be read; nil: it was made.
    func makeMark(pid: Int32, of id: DeviceID) throws(DeviceError) -> Int32? {
        let path = markPath(id)
        while unsafe symlink("\(pid)", path) != 0 {
            let errno = Errno(rawValue: Glibc.errno)
            guard errno == .fileExists else { throw .system(call: "symlink", path: path, errno) }
            // nil: its process has removed it meanwhile.
            if let other = markPID(of: id) { return other }
        }
        return nil
    }

    /// The pid in a device's mark, 0 when that cannot be read; nil: it has none.
    private func markPID(of id: DeviceID) -> Int32? {
        var text = [CChar](repeating: 0, count: 16)
        let count = unsafe readlink(markPath(id), &text, 16)
        guard count >= 0 else { return Glibc.errno == ENOENT ? nil : 0 }
        let bytes = text.prefix(count).map { UInt8(bitPattern: $0) }
        return Int32(String(decoding: bytes, as: UTF8.self)) ?? 0
    }

    func removeMark(of id: DeviceID) { unsafe unlink(markPath(id)) }

    /// The ids of all devices with a record, in ascending order.
    func recordedIDs() -> [DeviceID] {
        DirectoryListing.names(path)
            .compactMap { name in
                name.hasSuffix(".json") ? DeviceID(parsing: String(name.dropLast(5))) : nil
            }
            .sorted { $0.rawValue < $1.rawValue }
    }
}
