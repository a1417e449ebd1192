import ArgumentParser

/// `raw COMMAND ID [DATA]`: gives the driver one control command and waits for it as long as it takes.
///
/// Hidden; for tests, which do with it what another program could do to our devices.
struct RawCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "raw",
        abstract: "Give the driver one control command.",
        shouldDisplay: false
    )

    @Argument(
        help:
            "STOP_DEV, TRY_STOP_DEV, DEL_DEV, DEL_DEV_ASYNC, QUIESCE_DEV, UPDATE_SIZE or UNREG_BUF."
    )
    var command: String

    @Argument(help: "The device's number.")
    var id: UInt32

    @Argument(
        help: "UPDATE_SIZE: 512-byte sectors. QUIESCE_DEV: milliseconds. UNREG_BUF: the buffer."
    )
    var data: UInt64 = 0

    private static let kinds: [ControlCommand.Kind] = [
        .stopDevice, .tryStopDevice, .deleteDeviceAndWait, .deleteDevice, .quiesceDevice,
        .updateSize, .unregisterBuffer,
    ]

    func run() throws {
        guard let kind = Self.kinds.first(where: { $0.rawValue == command }) else {
            throw ValidationError("\(command) is none of \(Self.kinds.map(\.rawValue))")
        }
        do throws(DeviceError) {
            try ControlDevice().give(kind, DeviceID(id), data: data, seconds: 1 << 30)
        } catch { throw Failure(error) }
    }
}
