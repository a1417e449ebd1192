import Glibc
import SystemPackage

/// How this program reaches the driver: control commands, and the nodes of devices.
///
/// ``KernelDriver`` is the real one; a test's is a table of devices in memory. Any thread.
protocol DriverAccess: Sendable {
    /// Opens `/dev/ublk-control` anew, for one thread.
    func control() throws(DeviceError) -> any ControlTransport
    /// Every ublk device there is, whoever made it; without deleted ones.
    func presentIDs() -> [DeviceID]
    /// Opens `/dev/ublkcN` to serve it.
    func openCharacterDevice(_ device: DeviceID) throws(Errno) -> Int32
    /// Holds the node of that path against what the driver calls so.
    func checkNode(_ path: String) throws(DeviceNode.Problem)
    /// Whether this process may read and write the node of that path.
    func mayUse(_ path: String) -> Bool
    /// Whether the system has the disk; true when nothing tells.
    func hasDisk(_ device: DeviceID) -> Bool
    /// Whether reads or writes of the disk are under way; false when nothing tells.
    func isDiskBusy(_ device: DeviceID) -> Bool
    /// Opens the disk and reads its partition table.
    func scanPartitions(_ device: DeviceID) throws(Errno)
    /// Writes back what the kernel has in memory of the disk; errors are those of whoever wrote it.
    func syncDisk(_ device: DeviceID)
}

/// The kernel's ublk driver.
struct KernelDriver: DriverAccess {
    func control() throws(DeviceError) -> any ControlTransport {
        NodePathControl(try DriverControl())
    }

    func presentIDs() -> [DeviceID] {
        DirectoryListing.names("/sys/class/ublk-char")
            .compactMap { DeviceID(parsing: "/dev/" + $0) }
            .sorted { $0.rawValue < $1.rawValue }
    }

    func openCharacterDevice(_ device: DeviceID) throws(Errno) -> Int32 {
        let fd = unsafe open(device.characterPath, O_RDWR | O_CLOEXEC | O_NONBLOCK)
        guard fd >= 0 else { throw Errno(rawValue: Glibc.errno) }
        return fd
    }

    func checkNode(_ path: String) throws(DeviceNode.Problem) { try DeviceNode.check(path) }

    func mayUse(_ path: String) -> Bool { unsafe access(path, R_OK | W_OK) == 0 }

    func hasDisk(_ device: DeviceID) -> Bool {
        unsafe access("/sys/block", F_OK) != 0 || access("/sys/block/ublkb\(device)", F_OK) == 0
    }

    func isDiskBusy(_ device: DeviceID) -> Bool {
        let fd = unsafe open("/sys/block/ublkb\(device)/inflight", O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return false }
        defer { close(fd) }
        var text = [UInt8](repeating: 0, count: 64)
        let got = unsafe text.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        return text.prefix(max(0, got)).contains {
            (UInt8(ascii: "1")...UInt8(ascii: "9")).contains($0)
        }
    }

    func scanPartitions(_ device: DeviceID) throws(Errno) {
        let fd = unsafe open(device.blockPath, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { throw Errno(rawValue: Glibc.errno) }
        defer { close(fd) }
        try SystemCall.rescanPartitions(fd)
    }

    func syncDisk(_ device: DeviceID) {
        let fd = unsafe open(device.blockPath, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return }
        fsync(fd)
        close(fd)
    }
}
