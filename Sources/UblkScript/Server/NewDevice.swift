/// ADD_DEV and SET_PARAMS of the server's own device.
///
/// The two commands that may wait in the kernel and that the server gives itself, because it serves
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
}
