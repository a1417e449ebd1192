import CUring
import Glibc
import SystemPackage

/// `/dev/ublkbN` and `/dev/ublkcN`, held against what the driver calls them.
///
/// A file of such a name is not always the device: what `dd of=/dev/ublkb0` leaves behind a `del` is a
/// regular file, and the node of the next device is not made then. Everything written to it would seem
/// to work. The driver's number is read from sysfs: GET_PARAMS tells it too, but waits behind a STOP.
///
/// Any thread.
enum DeviceNode {
    enum Problem: Error, Equatable, CustomStringConvertible {
        case missing(path: String)
        case other(path: String, what: String)

        var description: String {
            switch self {
            case .missing(let path):
                "\(path) is not there, although the driver has the device. Is this a container's /dev?"
            case .other(let path, let what):
                """
                \(path) is \(what), not the device of the driver. \
                Take it away (mv \(path) /root/) and try again
                """
            }
        }
    }

    /// Checks that both nodes belong to the driver's device.
    static func check(_ id: DeviceID) throws(Problem) {
        try check(id.blockPath)
        try check(id.characterPath)
    }

    /// Fine when `path` is none of a ublk device, or is what the driver calls so.
    ///
    /// A device that the driver does not have is somebody else's problem.
    static func check(_ path: String) throws(Problem) {
        let name = path.dropFirst("/dev/".count)
        guard path.hasPrefix("/dev/"), let entry = sysfsEntry(String(name)),
            let number = word(entry + "/dev")
        else { return }
        let type: mode_t = name.hasPrefix("ublkc") ? S_IFCHR : S_IFBLK
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw .missing(path: path) }
        guard status.st_mode & S_IFMT == type else {
            throw .other(path: path, what: what(status.st_mode))
        }
        let found = Self.number(status.st_rdev)
        guard found == number else {
            throw .other(path: path, what: "the node of another device (\(found), not \(number))")
        }
    }

    /// True for a regular file in the filesystem of `/dev`, which a write to a missing device leaves behind.
    static func isFileAmongDevices(_ file: stat) -> Bool {
        var devices = stat()
        var root = stat()
        guard file.st_mode & S_IFMT == S_IFREG, unsafe stat("/dev", &devices) == 0,
            unsafe stat("/", &root) == 0
        else { return false }
        return file.st_dev == devices.st_dev && devices.st_dev != root.st_dev
    }

    /// Of a whole disk, a partition of one, or a character device.
    private static func sysfsEntry(_ name: String) -> String? {
        if name.hasPrefix("ublkb") { return "/sys/class/block/" + name }
        return name.hasPrefix("ublkc") ? "/sys/class/ublk-char/" + name : nil
    }

    private static func what(_ mode: mode_t) -> String {
        switch mode & S_IFMT {
        case S_IFREG: "a regular file"
        case S_IFDIR: "a folder"
        case S_IFIFO: "a fifo"
        case S_IFSOCK: "a socket"
        case S_IFCHR: "a character device"
        default: "a block device"
        }
    }

    /// `MAJOR:MINOR`, as sysfs and mountinfo write it.
    static func number(_ device: dev_t) -> String {
        let major = (device >> 8) & 0xfff | (device >> 32) & ~0xfff
        let minor = device & 0xff | (device >> 12) & ~0xff & 0xffff_ffff
        return "\(major):\(minor)"
    }

    /// The one word in a file of sysfs; nil when there is none.
    static func word(_ path: String) -> String? { words(path)?.joined() }

    /// The words in a file of sysfs; nil when there is none.
    static func words(_ path: String) -> [Substring]? {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe read(fd, $0.baseAddress, $0.count)
        }
        guard count > 0 else { return nil }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
            .split(whereSeparator: \.isWhitespace)
    }
}
