import Glibc
import SystemPackage

/// The first steps of a device: ADD_DEV, SET_PARAMS, `/dev/ublkcN`.
///
/// These two commands may wait in the kernel and are the server's own nevertheless, because it serves
/// nothing yet: it has no `/dev/ublkcN`, so nobody can wait for it. ADD_DEV waits behind a DEL of
/// any device, and a kill ends that; SET_PARAMS waits behind commands for a device that has no disk
/// yet, which are short. See ``LockFreeQueries``.
enum NewDevice {
    static func add(_ info: DeviceInfo) throws(DeviceError) -> DeviceInfo {
        try ControlDevice().add(info)
    }

    static func setParams(_ params: DeviceParams, of device: DeviceID) throws(DeviceError) {
        try ControlDevice().setParams(params, of: device)
    }

    /// Opens `/dev/ublkcN`.
    ///
    /// The node may not be there yet, and udev may hold it for a moment.
    static func open(_ device: DeviceID) throws(DeviceError) -> Int32 {
        for _ in 0..<300 {
            do throws(DeviceNode.Problem) { try DeviceNode.check(device.characterPath) } catch {
                if case .other = error { throw .unsupported("device \(device): \(error)") }
            }
            let fd = unsafe Glibc.open(device.characterPath, O_RDWR | O_CLOEXEC | O_NONBLOCK)
            if fd >= 0 { return fd }
            guard [ENOENT, EBUSY, EACCES].contains(Glibc.errno) else { break }
            usleep(10_000)
        }
        throw .system(call: "open", path: device.characterPath, Errno(rawValue: Glibc.errno))
    }
}
