import Glibc

/// The users of a device's disk: holders, which lose data when the device goes, and programs that merely have it open.
///
/// Found in sysfs and `/proc`, as far as the caller may read them; the device itself is not accessed, so nothing here
/// can wait for it. Of a deleted device only the name is left, in mounts and open files. Any process and thread.
struct DeviceUsers: Equatable {
    private let root: String
    /// Descriptions such as `mounted at /mnt (ext4)`, `used as swap`, `beneath dm-0 (name)`.
    private(set) var holders: [String] = []
    /// Pids and names, such as `1234 sleep`.
    private(set) var openers: [String] = []

    /// True when the driver has deleted the device, but its number stays taken until the last user closes it.
    static func isDeleted(_ id: DeviceID, _ info: DeviceInfo) -> Bool {
        let isThere = unsafe access("/sys/class/ublk-char/ublkc\(id)", F_OK) == 0
        return info.state == .dead && !isThere
    }

    /// A description of a deleted device, such as `deleted, still open by 1234 sleep`.
    var descriptionOfDeleted: String {
        let all =
            holders.map { "still " + $0 } + (openers.isEmpty ? [] : ["still open by " + opens])
        return "deleted, "
            + (all.isEmpty ? "still held by the kernel" : all.joined(separator: ", "))
    }

    /// `mounted at /mnt (ext4); open by 1234 sleep`; nil: no user is found.
    var names: String? {
        let all = holders + (openers.isEmpty ? [] : ["open by " + opens])
        return all.isEmpty ? nil : all.joined(separator: "; ")
    }

    private var opens: String { openers.joined(separator: ", ") }

    /// - Parameter root: folder that contains `sys` and `proc`; tests have their own.
    init(of id: DeviceID, root: String = "") {
        self.root = root
        let disk = DiskNames(id, root: root)
        addMounts(of: disk)
        addSwap(of: disk)
        addLayers(on: disk)
        addPrograms(with: disk)
    }

    /// Ids of ublk disks that programs have open or mounted, deleted ones among them.
    static func usedIDs() -> Set<DeviceID> {
        var ids: Set<DeviceID> = []
        for pid in processes("") {
            for path in openPaths(pid, "") {
                if let id = DiskNames.id(of: path) { ids.insert(id) }
            }
        }
        for mount in Mount.all(of: "self") ?? [] {
            if let id = DiskNames.id(of: mount.source) { ids.insert(id) }
        }
        return ids
    }

    // MARK: Mounts

    /// Adds the mounts in all mount namespaces of running processes.
    private mutating func addMounts(of disk: DiskNames) {
        var seen: Set<String> = []
        let own = DirectoryListing.link("\(root)/proc/self/ns/mnt")
        for pid in ["self"] + Self.processes(root) {
            guard let namespace = DirectoryListing.link("\(root)/proc/\(pid)/ns/mnt"),
                seen.insert(namespace).inserted
            else { continue }
            let mounts = Mount.all(of: pid, root)
            // Another process may have ended.
            if mounts == nil, pid == "self" {
                add("perhaps mounted, as /proc/self/mountinfo cannot be read")
            }
            for mount in mounts ?? []
            where disk.numbers.contains(mount.number) || disk.has(mount.source) {
                let whose = namespace == own ? "" : " for \(pid) \(name(of: pid))"
                add("mounted at \(mount.place) (\(mount.type))\(whose)")
            }
        }
    }

    private mutating func addSwap(of disk: DiskNames) {
        let table = "/proc/swaps"
        let lines = KernelTable.lines(root + table)
        // A kernel without swap has no such table.
        if lines == nil, unsafe access(root + table, F_OK) == 0 {
            add("perhaps used as swap, as \(table) cannot be read")
        }
        for line in lines ?? [] {
            guard let path = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).first else {
                continue
            }
            if disk.has(KernelTable.unescaped(path)) { add("used as swap") }
        }
    }

    // MARK: Other devices

    private mutating func addLayers(on disk: DiskNames) {
        for folder in disk.folders {
            for name in DirectoryListing.names(folder + "/holders") {
                let label = DeviceNode.word("\(root)/sys/block/\(name)/dm/name")
                add("beneath \(name)\(label.map { " (\($0))" } ?? "")")
            }
            // A bcache cache device has no holder; a running backing device has one.
            let bcache = DirectoryListing.names(folder + "/bcache")
            if !bcache.isEmpty, !bcache.contains("dev") { add("part of a bcache") }
        }
        for name in DirectoryListing.names(root + "/sys/block") where name.hasPrefix("loop") {
            let file = DeviceNode.word("\(root)/sys/block/\(name)/loop/backing_file")
            if let file, disk.has(file) { add("beneath /dev/\(name)") }
        }
        for name in DirectoryListing.names(root + "/sys/fs/btrfs") {
            for member in DirectoryListing.names("\(root)/sys/fs/btrfs/\(name)/devices")
            where disk.has("/dev/" + member)
                && !holders.contains(where: { $0.hasPrefix("mounted") })
            {
                add("part of a mounted btrfs (\(name))")
            }
        }
    }

    // MARK: Programs

    private mutating func addPrograms(with disk: DiskNames) {
        for pid in Self.processes(root) where Self.openPaths(pid, root).contains(where: disk.has) {
            let name = name(of: pid)
            // The only disks that a server has open are the backings of its device.
            let isServer = name == "ublk-script" && ServerProcess.isServer(pid)
            if isServer {
                add("the backing of a device that ublk-script serves (\(pid))")
            } else {
                openers.append("\(pid) \(name)")
            }
        }
    }

    private static func processes(_ root: String) -> [String] {
        DirectoryListing.names(root + "/proc").filter { $0.first?.isNumber == true }
    }

    private static func openPaths(_ pid: String, _ root: String) -> [String] {
        let folder = "\(root)/proc/\(pid)/fd"
        return DirectoryListing.names(folder).compactMap {
            DirectoryListing.link("\(folder)/\($0)")
        }
    }

    private func name(of pid: String) -> String {
        KernelTable.lines("\(root)/proc/\(pid)/comm")?.first.map(String.init) ?? "?"
    }

    // MARK: Reading

    private mutating func add(_ holder: String) {
        if !holders.contains(holder) { holders.append(holder) }
    }
}

/// The names by which a device's disk and its partitions may be listed.
struct DiskNames {
    private let path: String
    /// Folders of the disk and of its partitions below `/sys/block`.
    let folders: [String]
    /// `MAJOR:MINOR` of each; none for a deleted device.
    let numbers: Set<Substring>

    init(_ id: DeviceID, root: String = "") {
        path = id.blockPath
        let name = "ublkb\(id)"
        let disk = "\(root)/sys/block/\(name)"
        let partitions = DirectoryListing.names(disk).filter { $0.hasPrefix(name + "p") }
        folders = [disk] + partitions.map { "\(disk)/\($0)" }
        numbers = Set(folders.compactMap { DeviceNode.word($0 + "/dev").map { $0[...] } })
    }

    /// True for the disk's node (`/dev/ublkb0`) and those of partitions (`/dev/ublkb0p1`), even marked as deleted.
    func has(_ other: String) -> Bool {
        guard other.hasPrefix(path) else { return false }
        let rest = Self.withoutRemark(other).dropFirst(path.count)
        return rest.isEmpty || rest.first == "p" && rest.dropFirst().allSatisfy(\.isNumber)
    }

    /// The device that a path such as `/dev/ublkb0` or `/dev/ublkb0p1` belongs to.
    static func id(of path: String) -> DeviceID? {
        guard path.hasPrefix("/dev/ublkb") else { return nil }
        let name = withoutRemark(path)
        return DeviceID(parsing: String(name.prefix(while: { $0 != "p" })))
    }

    /// Strips the remark that the kernel adds to the path of a node that was removed.
    private static func withoutRemark(_ path: String) -> Substring {
        for remark in [" (deleted)", "(deleted)"] where path.hasSuffix(remark) {
            return path.dropLast(remark.count)
        }
        return path[...]
    }
}
