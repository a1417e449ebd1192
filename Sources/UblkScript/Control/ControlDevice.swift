import CUring
import Glibc
import SystemPackage

/// `/dev/ublk-control` with one method per command, those of ``LockFreeQueries`` among them.
///
/// One thread. **Not for a process that serves a device**: each method here may wait in the kernel,
/// and a server that does cannot be killed; why is written at ``LockFreeQueries``. A server has
/// ``DriverQueries`` and an ``OutsideControl``.
///
/// Each method has a time limit, because the driver may wait for a server that does not answer.
/// STOP and DEL may be waited for longest: the block layer writes dirty data back through the
/// server first.
struct ControlDevice: LockFreeQueries {
    /// Time limit of commands that only query, in seconds: they should answer at once.
    static let querySeconds = 5
    /// START waits for the partition scan of older kernels, STOP for writeback.
    static let changeSeconds = 30

    let transport: any ControlTransport

    init(_ transport: any ControlTransport) { self.transport = transport }

    /// Opens `/dev/ublk-control`.
    init() throws(DeviceError) { transport = try KernelDriver().control() }

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

    /// Registers memory of this process that programs map, too; the driver keeps its pages where they are.
    ///
    /// Only for a device with ``Features/sharedMemory``. Waits for all IO of one that has a disk.
    ///
    /// - Returns: the number that the driver gives it.
    func register(
        _ memory: SharedMemory,
        with device: DeviceID
    ) throws(DeviceError) -> UInt16 {
        var payload = unsafe Bytes.of(
            ublk_shared_buffer(
                addr: UInt64(UInt(bitPattern: memory.first)),
                len: UInt64(memory.byteCount),
                flags: 0,
                reserved: 0
            )
        )
        let command = ControlCommand(kind: .registerBuffer, device: device)
        let seconds = Self.changeSeconds
        let number = try transport.run(command, payload: &payload, seconds: seconds)
        return UInt16(truncatingIfNeeded: number)
    }

    /// Has the driver let go of memory; waits for all IO of a device that has a disk.
    func unregister(
        _ buffer: UInt16,
        with device: DeviceID,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        try give(.unregisterBuffer, device, data: UInt64(buffer), seconds: seconds)
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
        try serve(.startDevice, device, serverPID, seconds)
    }

    /// Readies a device whose server died for the next server, which then opens `/dev/ublkcN`.
    ///
    /// - Throws: EBUSY while the driver has not let go of the dead server yet.
    func startRecovery(
        _ device: DeviceID,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        try change(.init(kind: .startRecovery, device: device), seconds: seconds)
    }

    /// Hands the disk to the next server, with the IO that waited.
    ///
    /// Returns when every tag of every queue has been fetched.
    ///
    /// - Parameter serverPID: as of ``start(_:serverPID:seconds:)``.
    func endRecovery(
        _ device: DeviceID,
        serverPID: Int32,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        try serve(.endRecovery, device, serverPID, seconds)
    }

    private func serve(
        _ kind: ControlCommand.Kind,
        _ device: DeviceID,
        _ serverPID: Int32,
        _ seconds: Int
    ) throws(DeviceError) {
        var command = ControlCommand(kind: kind, device: device)
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

    /// As ``stop(_:seconds:)``, but only when nobody has the disk open.
    ///
    /// - Throws: EBUSY when somebody has; then nothing has changed.
    func tryStop(
        _ device: DeviceID,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        try change(.init(kind: .tryStopDevice, device: device), seconds: seconds)
    }

    /// Stops the device if need be and deletes it.
    ///
    /// The number is free once nobody has the disk open; DEL_DEV would wait for that, for ever if
    /// it is mounted, and hold up every other ublk device of the machine meanwhile. So this is
    /// DEL_DEV_ASYNC, and ``LockFreeQueries/waitUntilGone(_:seconds:clock:)`` tells.
    func delete(_ device: DeviceID, seconds: Int = changeSeconds) throws(DeviceError) {
        try change(.init(kind: .deleteDevice, device: device), seconds: seconds)
    }

    /// Has the driver give the server nothing more, and give back what the server does not work on.
    ///
    /// Only for a device with ``Features/quiesce``. What the server works on it still answers; the device waits for
    /// the next server when it has closed `/dev/ublkcN`.
    ///
    /// - Throws: EBUSY and EINTR: it was done all the same.
    func quiesce(
        _ device: DeviceID,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        // 0 would be without a limit.
        try give(.quiesceDevice, device, data: 1000, seconds: seconds)
    }

    /// Changes the size of a disk, which its users are told of.
    ///
    /// Only for a device that has a disk: drivers before 7.2 crash the kernel when it has none (`ublk_ctrl_set_size`).
    ///
    /// - Parameter sizeBytes: a multiple of the logical block, which the driver does not check.
    func updateSize(
        of device: DeviceID,
        to sizeBytes: UInt64,
        seconds: Int = changeSeconds
    ) throws(DeviceError) {
        try give(.updateSize, device, data: sizeBytes / 512, seconds: seconds)
    }

    /// Gives any command that has only a number as its argument, as another program may.
    ///
    /// - Parameter data: UPDATE_SIZE: 512-byte sectors; QUIESCE_DEV: milliseconds.
    func give(
        _ kind: ControlCommand.Kind,
        _ device: DeviceID,
        data: UInt64,
        seconds: Int
    ) throws(DeviceError) {
        var command = ControlCommand(kind: kind, device: device)
        command.data = data
        try change(command, seconds: seconds)
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
