import Glibc

/// What a filesystem lies on, as sysfs tells it: the disk itself, a partition of it, or something that maps addresses.
///
/// Any thread.
struct DiskBelow {
    /// `st_dev` of a file, or `st_rdev` of a block device.
    let device: dev_t

    /// Where on that disk the device begins, bytes; nil: it is neither the disk nor a partition of it.
    func start(on disk: dev_t) -> UInt64? {
        if device == disk { return 0 }
        // A partition is a folder inside its disk's.
        guard word("../dev") == "\(Self.major(disk)):\(Self.minor(disk))" else { return nil }
        return word("start").flatMap { UInt64($0) }.map { $0 * 512 }
    }

    /// The reason why its offsets are not those of the disk:
    /// `the device-mapper device vg-home, which has ublkb0 below it`.
    ///
    /// - Parameter statfs: the type of the filesystem on it, for one that has no block device of its own.
    func reason(filesystem: Int64) -> String {
        guard Self.major(device) != 0 else { return Self.reason(filesystem: filesystem) }
        let name = Self.name(folder)
        let below = DirectoryListing.names("\(folder)/slaves").sorted().joined(separator: ", ")
        let on = below.isEmpty ? "" : ", which has \(below) below it"
        if let dm = word("dm/name") {
            return "\(dm), a device-mapper device\(on); it maps addresses itself"
        }
        if let level = word("md/level") {
            return "\(name), a \(level) array of md\(on); it maps addresses itself"
        }
        if let file = word("loop/backing_file") {
            return "\(name), a loop device over the file \(file): map that file"
        }
        return "\(name)\(on)"
    }

    private static func reason(filesystem: Int64) -> String {
        switch filesystem {
        case 0x9123_683e:
            "a btrfs, which maps the addresses of its files to its disks itself and tells its own ones only"
        case 0x2fc1_2fc1: "a ZFS, which maps addresses itself"
        case 0x794c_7630: "an overlay: map the file where it is, in the upper or a lower folder"
        case 0x0102_1994, 0x8584_58f6: "a tmpfs, which is in memory"
        case 0x6969: "an NFS, whose disk is another machine's"
        case 0x6573_5546: "a FUSE filesystem, which does not tell"
        default: "a filesystem without a block device of its own"
        }
    }

    /// True when the disk is below it, directly or through other devices.
    func isAbove(_ disk: dev_t) -> Bool {
        var seen: Set<String> = []
        var waiting = [folder]
        while let folder = waiting.popLast() {
            guard seen.insert(Self.name(folder)).inserted, seen.count < 1000 else { continue }
            let own = "\(Self.major(disk)):\(Self.minor(disk))"
            if Self.word("\(folder)/dev") == own || Self.word("\(folder)/../dev") == own {
                return true
            }
            waiting += DirectoryListing.names("\(folder)/slaves").map { "\(folder)/slaves/\($0)" }
        }
        return false
    }

    // MARK: sysfs

    private var folder: String {
        "/sys/dev/block/\(Self.major(device)):\(Self.minor(device))"
    }

    private static func name(_ folder: String) -> String {
        guard let resolved = unsafe realpath(folder, nil) else { return folder }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved).split(separator: "/").last.map(String.init)
            ?? folder
    }

    private func word(_ name: String) -> String? { Self.word("\(folder)/\(name)") }

    /// The line in a file of sysfs; nil when there is none.
    private static func word(_ path: String) -> String? {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe read(fd, $0.baseAddress, $0.count)
        }
        guard count > 0 else { return nil }
        return String(decoding: bytes.prefix(count).prefix { $0 != 10 }, as: UTF8.self)
    }

    static func major(_ device: dev_t) -> dev_t {
        (device >> 8) & 0xfff | (device >> 32) & ~0xfff
    }

    static func minor(_ device: dev_t) -> dev_t {
        device & 0xff | (device >> 12) & ~0xff & 0xffff_ffff
    }
}
