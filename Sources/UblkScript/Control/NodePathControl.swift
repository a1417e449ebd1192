import CUring
import SystemPackage

/// Control commands that reach the devices of users without root, too.
///
/// The node `/dev/ublkcN` of such a device (UBLK_F_UNPRIVILEGED_DEV) decides who may give it commands: whoever may read
/// it asks, whoever may also write it changes. So its path stands in front of each command's payload, and the driver
/// answers EINVAL to everybody, root included, where it is missing. A device of root's takes none, and would have a
/// path for the payload. Numbers are given anew, so a command goes without a path first; only after an EINVAL, before
/// which nothing has happened, the driver is asked what kind of device it is.
///
/// All that a server asks on its own stays lock-free (``LockFreeQueries``): that question is, and so is the lookup of a
/// path in `/dev`. One thread. Source: driver `ublk_ctrl_uring_cmd_permission`.
final class NodePathControl: ControlTransport {
    private let transport: any ControlTransport

    /// How long DEL_DEV may wait for users of the disk, once it is stopped.
    private static let deleteSeconds = 1

    init(_ transport: any ControlTransport) { self.transport = transport }

    @discardableResult
    func run(
        _ command: ControlCommand,
        payload: inout [UInt8],
        seconds: Int
    ) throws(DeviceError) -> Int32 {
        do throws(DeviceError) {
            return try transport.run(command, payload: &payload, seconds: seconds)
        } catch {
            guard error.errno == .invalidArgument, let device = command.device,
                command.kind != .addDevice, command.pathLength == 0, takesPath(device)
            else { throw error }
            guard command.kind == .deleteDevice else {
                return try runWithPath(command, device, &payload, seconds)
            }
            try delete(device, seconds)
            return 0
        }
    }

    private func takesPath(_ device: DeviceID) -> Bool {
        var payload = Bytes.of(ublk_dev_info())
        let question = ControlCommand(kind: .getDeviceInfo, device: device)
        let seconds = ControlDevice.querySeconds
        do throws(DeviceError) {
            try transport.run(question, payload: &payload, seconds: seconds)
            return false
        } catch { return error.errno == .invalidArgument }
    }

    @discardableResult
    private func runWithPath(
        _ command: ControlCommand,
        _ device: DeviceID,
        _ payload: inout [UInt8],
        _ seconds: Int
    ) throws(DeviceError) -> Int32 {
        let path = device.characterPathBytes
        var command = command
        command.pathLength = UInt16(path.count)
        var all = path + payload
        let answer = try transport.run(command, payload: &all, seconds: seconds)
        payload = Array(all.dropFirst(path.count))
        return answer
    }

    /// Does what DEL_DEV_ASYNC does, which is not among the commands that the driver takes a path for.
    ///
    /// STOP_DEV waits for IO as long as it takes. After that DEL_DEV only waits until nobody has the disk open any
    /// more; that is cut short, as the device is deleted all the same.
    private func delete(_ device: DeviceID, _ seconds: Int) throws(DeviceError) {
        var none: [UInt8] = []
        try runWithPath(.init(kind: .stopDevice, device: device), device, &none, seconds)
        do throws(DeviceError) {
            let command = ControlCommand(kind: .deleteDeviceAndWait, device: device)
            try runWithPath(command, device, &none, min(seconds, Self.deleteSeconds))
        } catch {
            guard case .timeout = error else { throw error }
        }
    }
}
