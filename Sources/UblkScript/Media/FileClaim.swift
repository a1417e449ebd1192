import CUring
import Glibc
import SystemPackage

/// How a device holds a backing file against all others, from when it is opened to the end of its server.
///
/// Locks belong to the open file, which the server's rings have, too, so they end when nobody can write any more. flock
/// has two kinds, for one writer or for many readers. Devices that share a file hold it as readers do; so that neither
/// gets in among the other, each kind marks a byte of its own, far behind the end of any file, by a lock of that byte
/// (F_OFD_SETLK), and looks for the other's mark.
enum FileClaim: Sendable, Equatable {
    /// Nobody else has the file.
    case exclusive
    /// Others have it as long as they share it, too.
    case shared(isReadOnly: Bool)
    /// Others have it as long as they only read it, too.
    case readOnly

    init(isShared: Bool, isReadOnly: Bool) {
        self =
            isShared ? .shared(isReadOnly: isReadOnly) : isReadOnly ? .readOnly : .exclusive
    }

    var isShared: Bool { if case .shared = self { true } else { false } }
    /// The file is opened only to be read.
    var isReadOnly: Bool { self == .readOnly || self == .shared(isReadOnly: true) }

    /// What is marked; the raw value is the byte.
    private enum Mark: Int64 {
        case isShared = 0x4000_0000_0000_0000
        case isOnlyRead = 0x4000_0000_0000_0001

        func set(_ fd: Int32) throws(Errno) { try SystemCall.lockByte(rawValue, of: fd) }
        func isThere(_ fd: Int32) -> Bool { SystemCall.isByteLocked(rawValue, of: fd) }
    }

    /// Takes the locks of an open file, which end with it.
    func take(_ fd: Int32, path: String) throws(FileStore.Problem) {
        guard flock(fd, (self == .exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0 else {
            throw refusal(fd, path: path)
        }
        // First the own mark, then a look for the other one: of two that come at the same moment both may be refused.
        switch self {
        case .exclusive: break
        case .shared:
            do throws(Errno) { try Mark.isShared.set(fd) } catch {
                throw .system(call: "F_OFD_SETLK", path: path, error)
            }
            if Mark.isOnlyRead.isThere(fd) { throw refusal(fd, path: path) }
        case .readOnly:
            // Where that cannot be done nobody shares the file either.
            try? Mark.isOnlyRead.set(fd)
            if Mark.isShared.isThere(fd) { throw refusal(fd, path: path) }
        }
    }

    /// The refusal of a file that others hold in another way.
    ///
    /// - Parameter fd: -1: nobody was asked for it, as the kernel had refused it before.
    func refusal(_ fd: Int32, path: String) -> FileStore.Problem {
        let devices = fd < 0 ? [] : FileHolders.devices(fd)
        let holders: String? =
            switch devices.count {
            case 0: nil
            case 1: "device \(devices[0]) has it"
            default: "devices " + devices.map { "\($0)" }.joined(separator: ", ") + " have it"
            }
        let hint: String? =
            switch self {
            case .shared where fd < 0: nil
            case .shared where Mark.isOnlyRead.isThere(fd):
                "what only reads it has to say shared = true, too"
            case .shared:
                "it is not shared there. All devices that share a file have to say shared = true"
            case .exclusive, .readOnly:
                fd >= 0 && Mark.isShared.isThere(fd)
                    ? "it is shared. Say shared = true here, too, or take another file" : nil
            }
        return .inUse(path: path, by: holders, hint: hint)
    }
}

/// The devices whose servers have a file open, as far as `/proc` tells.
private enum FileHolders {
    /// In ascending order, without a device of this process.
    static func devices(_ fd: Int32) -> [DeviceID] {
        guard let file = Identity("/proc/self/fd/\(fd)") else { return [] }
        var found: [DeviceID] = []
        for name in DirectoryListing.names("/proc") {
            guard let pid = Int32(name), pid != getpid(), let id = device(of: name) else {
                continue
            }
            let has = DirectoryListing.names("/proc/\(name)/fd").contains {
                Identity("/proc/\(name)/fd/\($0)") == file
            }
            if has, !found.contains(id) { found.append(id) }
        }
        return found.sorted { $0.rawValue < $1.rawValue }
    }

    /// The device that a process serves: only its server has `/dev/ublkcN` open.
    private static func device(of pid: String) -> DeviceID? {
        for name in DirectoryListing.names("/proc/\(pid)/fd") {
            guard let path = DirectoryListing.link("/proc/\(pid)/fd/\(name)"),
                path.hasPrefix("/dev/ublkc"), let id = DeviceID(parsing: path)
            else { continue }
            return id
        }
        return nil
    }

    /// What a file is, by whatever name it was opened.
    private struct Identity: Equatable {
        private let device, number, kind: UInt64

        init?(_ path: String) {
            var status = stat()
            guard unsafe stat(path, &status) == 0 else { return nil }
            let isDevice = status.st_mode & S_IFMT == S_IFBLK
            device = UInt64(isDevice ? status.st_rdev : status.st_dev)
            number = isDevice ? 0 : UInt64(status.st_ino)
            kind = UInt64(status.st_mode & S_IFMT)
        }
    }
}
