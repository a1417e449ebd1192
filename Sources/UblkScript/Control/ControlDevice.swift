import CUring
import Glibc
import SystemPackage

/// `/dev/ublk-control` with one method per command.
///
/// One thread.
///
/// Each method has a time limit, because the driver may wait for a server that does not answer.
/// STOP and DEL may be waited for longest: the block layer writes dirty data back through the
/// server first.
struct ControlDevice {
    /// Commands that only look: they should answer at once.
    static let querySeconds = 5
    /// START waits for the partition scan of older kernels, STOP for writeback.
    static let changeSeconds = 30

    private let transport: any ControlTransport

    init(_ transport: any ControlTransport) { self.transport = transport }

    /// Opens the real one.
    init() throws(DeviceError) { transport = try DriverControl() }

    /// The flags this driver knows.
    ///
    /// Takes no lock.
    func features() throws(DeviceError) -> Features {
        var payload = [UInt8](repeating: 0, count: MemoryLayout<UInt64>.size)
        try run(.init(kind: .getFeatures, device: nil), &payload)
        return Features(rawValue: Bytes.load(UInt64.self, from: payload))
    }

    /// Adds a device and answers what the driver made of it: unknown flags are gone, queues are
    /// capped at the CPUs.
    func add(_ info: DeviceInfo) throws(DeviceError) -> DeviceInfo {
        var payload = Bytes.of(info.raw)
        // Waits behind every DEL that is under way, on any device.
        try run(
            .init(kind: .addDevice, device: info.id),
            &payload,
            seconds: Self.changeSeconds
        )
        return DeviceInfo(Bytes.load(ublk_dev_info.self, from: payload))
    }

    /// Sets the parameters and reads them back: a driver drops types it does not know without a
    /// word.
    func setParams(_ params: DeviceParams, of device: DeviceID) throws(DeviceError) {
        var payload = Bytes.of(params.raw)
        try run(.init(kind: .setParams, device: device), &payload)
        guard try getParams(of: device).keeps(params.raw) else {
            throw .unsupported(
                "device \(device): the driver did not keep the parameters it was given (SET_PARAMS)"
            )
        }
    }

    /// Waits behind STOP and START of the same device: do not call it to list devices.
    func getParams(
        of device: DeviceID,
        seconds: Int = querySeconds
    ) throws(DeviceError) -> ublk_params {
        var empty = ublk_params()
        empty.len = UInt32(MemoryLayout<ublk_params>.size)
        var payload = Bytes.of(empty)
        try run(.init(kind: .getParams, device: device), &payload, seconds: seconds)
        return Bytes.load(ublk_params.self, from: payload)
    }

    /// Takes no lock, never blocks.
    ///
    /// - Throws: ENODEV when there is no such device.
    func info(of device: DeviceID) throws(DeviceError) -> DeviceInfo {
        var payload = Bytes.of(ublk_dev_info())
        try run(.init(kind: .getDeviceInfo, device: device), &payload)
        return DeviceInfo(Bytes.load(ublk_dev_info.self, from: payload))
    }

    /// As ``info(of:)``, for devices of other users: names the character device, whose permissions
    /// decide.
    func infoByPath(of device: DeviceID) throws(DeviceError) -> DeviceInfo {
        let path = Array(device.characterPath.utf8) + [0]
        var payload = path + Bytes.of(ublk_dev_info())
        var command = ControlCommand(kind: .getDeviceInfo2, device: device)
        command.pathLength = UInt16(path.count)
        try run(command, &payload)
        return DeviceInfo(
            Bytes.load(ublk_dev_info.self, from: Array(payload.dropFirst(path.count)))
        )
    }

    /// The CPUs whose requests go to `queue`, as a bitmap of native longs.
    func affinity(of queue: QueueID, device: DeviceID) throws(DeviceError) -> [UInt8] {
        let bytes = (Int(sys_cpu_count()) + 63) / 64 * 8
        var payload = [UInt8](repeating: 0, count: max(bytes, 128))
        var command = ControlCommand(kind: .getQueueAffinity, device: device)
        command.data = UInt64(queue.rawValue)
        try run(command, &payload)
        return payload
    }

    /// Makes `/dev/ublkbN`.
    ///
    /// Returns when every tag of every queue has been fetched and the disk is there.
    ///
    /// - Parameter serverPID: the process that opened `/dev/ublkcN`; drivers from 6.17 check it.
    func start(
        _ device: DeviceID,
        serverPID: Int32,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        var command = ControlCommand(kind: .startDevice, device: device)
        command.data = UInt64(UInt32(bitPattern: serverPID))
        try change(command, seconds: seconds)
    }

    /// Takes the disk away.
    ///
    /// Waits in the kernel for every IO the server holds, so call it from a thread that serves
    /// none.
    func stop(
        _ device: DeviceID,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        try change(.init(kind: .stopDevice, device: device), seconds: seconds)
    }

    /// Stops the device if need be and deletes it.
    ///
    /// The number is free once nobody has the disk open; DEL_DEV would wait for that, for ever if
    /// it is mounted, and hold up every other ublk device of the machine meanwhile. So this is
    /// DEL_DEV_ASYNC, and ``waitUntilGone(_:seconds:)`` tells.
    func delete(_ device: DeviceID, seconds: Int = changeSeconds) throws(DeviceError) {
        try change(.init(kind: .deleteDevice, device: device), seconds: seconds)
    }

    /// Waits until a deleted device is gone.
    ///
    /// - Returns: false when somebody still has its disk open after `seconds`.
    func waitUntilGone(_ device: DeviceID, seconds: Double = 1.5) -> Bool {
        let end = sys_monotonic_ns() + UInt64(seconds * 1e9)
        while true {
            do throws(DeviceError) { _ = try info(of: device) } catch {
                if error.errno == .operationNotSupportedByDevice { return true }
            }
            guard sys_monotonic_ns() < end else { return false }
            usleep(5000)
        }
    }

    private func change(
        _ command: ControlCommand,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        var none: [UInt8] = []
        try run(command, &none, seconds: seconds)
    }

    private func run(
        _ command: ControlCommand,
        _ payload: inout [UInt8],
        seconds: Int = querySeconds
    ) throws(DeviceError) {
        try transport.run(command, payload: &payload, seconds: seconds)
    }
}
