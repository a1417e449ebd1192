import CUring
import Glibc
import SystemPackage

/// The questions to the driver that wait for nobody, because it takes no lock for them.
///
/// **A process that serves a device may ask these and nothing else**, from the moment it has
/// `/dev/ublkcN` open. Every other command may wait in the kernel behind a STOP or DEL, also of
/// another program, and those wait for the IO that the process serves. The kernel runs a command in
/// a worker of the process that gave it. One that waits there cannot be killed, and until it ends
/// the process does not end either: its files stay open, so the driver never fails the IO, so the
/// STOP never ends, so the worker waits for ever, and only a restart of the machine helps. (On 6.12
/// these questions go to a worker too, and come back at once.) What has to wait is given by
/// ``OutsideControl``'s process, which serves nothing.
protocol LockFreeQueries {
    var transport: any ControlTransport { get }
}

/// The queries of a server to the driver.
///
/// One thread.
struct DriverQueries: LockFreeQueries {
    let transport: any ControlTransport
    init(_ transport: any ControlTransport) { self.transport = transport }

    /// Opens `/dev/ublk-control`.
    init() throws(DeviceError) { transport = try KernelDriver().control() }
}

extension LockFreeQueries {
    /// The flags this driver knows.
    func features() throws(DeviceError) -> Features {
        var payload = [UInt8](repeating: 0, count: MemoryLayout<UInt64>.size)
        try ask(.init(kind: .getFeatures, device: nil), &payload)
        return Features(rawValue: Bytes.load(UInt64.self, from: payload))
    }

    /// - Throws: ENODEV when there is no such device.
    func info(of device: DeviceID) throws(DeviceError) -> DeviceInfo {
        var payload = Bytes.of(ublk_dev_info())
        try ask(.init(kind: .getDeviceInfo, device: device), &payload)
        return DeviceInfo(Bytes.load(ublk_dev_info.self, from: payload))
    }

    /// As ``info(of:)``, for devices of other users: names the character device, whose permissions
    /// decide.
    func infoByPath(of device: DeviceID) throws(DeviceError) -> DeviceInfo {
        let path = device.characterPathBytes
        var payload = path + Bytes.of(ublk_dev_info())
        var command = ControlCommand(kind: .getDeviceInfo2, device: device)
        command.pathLength = UInt16(path.count)
        try ask(command, &payload)
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
        try ask(command, &payload)
        return payload
    }

    /// Waits until a deleted device is gone.
    ///
    /// - Returns: false when somebody still has its disk open after `seconds`.
    func waitUntilGone(
        _ device: DeviceID,
        seconds: Double = 1.5,
        clock: WaitClock = .machine
    ) -> Bool {
        var limit = TimeLimit(seconds: seconds, now: clock.now())
        while true {
            do throws(DeviceError) { _ = try info(of: device) } catch {
                if error.errno == .operationNotSupportedByDevice { return true }
            }
            guard !limit.isOver(now: clock.now()) else { return false }
            clock.pause(5)
        }
    }

    private func ask(_ command: ControlCommand, _ payload: inout [UInt8]) throws(DeviceError) {
        try transport.run(command, payload: &payload, seconds: ControlDevice.querySeconds)
    }
}
