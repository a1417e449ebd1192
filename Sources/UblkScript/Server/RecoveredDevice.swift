import Glibc
import SystemPackage

/// The driver's part of serving a device again whose server has died, up to END_USER_RECOVERY: what a ``NewDevice`` is
/// for a device that does not exist yet.
///
/// The commands here may wait in the kernel, but the server itself may give them because it serves nothing yet: see
/// ``NewDevice``.
struct RecoveredDevice {
    let record: DeviceRecord
    let access: any DriverAccess
    let clock: WaitClock
    /// nil: the kernel may be asked again whatever becomes of this recovery.
    let mark: RecoveryMark?

    var id: DeviceID { DeviceID(record.id) }

    /// How long the driver may need to notice that a server is dead: kernels before 6.15 notice the death of one that
    /// held every IO of a queue at the request timeout of 30 s.
    static let deathSeconds = 75.0
    /// How long it may need after that to let go of the dead server: until all rings are gone.
    private static let releaseSeconds = 30.0
    private static let pauseMilliseconds: UInt32 = 20

    /// The device, which waits for a server.
    ///
    /// - Throws: when it is another program's, is gone, was stopped, or has got a server.
    func find() throws(DeviceError) -> DeviceInfo {
        let info = try DriverQueries(access.control()).info(of: id)
        guard info.cookie == record.cookie else { throw .unsupported(Self.other(id)) }
        switch info.state {
        case .quiesced, .failIO: return info
        case .dead: throw .unsupported(Self.stopped(id))
        case .live: throw .unsupported(Self.served(id, info.serverPID))
        }
    }

    /// The size of the disk; nil when the device is not one to recover, which ``find()`` tells of.
    func sizeBytes() -> UInt64? {
        guard (try? find()) != nil, let control = try? access.control() else { return nil }
        return (try? ControlDevice(control).getParams(of: id))?.sizeBytes
    }

    /// Refuses parameters that the device does not have.
    func check(_ params: DeviceParams) throws(DeviceError) {
        guard try ControlDevice(access.control()).getParams(of: id).keeps(params.raw) else {
            throw .unsupported(
                """
                device \(id): its script, loaded again, declares other limits than the device has, as if it looked \
                at something that has changed since. What is left: ublk-script del \(id)
                """
            )
        }
    }

    /// Gives START_USER_RECOVERY, again while the driver has not let go of the dead server.
    func begin() throws(DeviceError) {
        let control = ControlDevice(try access.control())
        var limit = TimeLimit(seconds: Self.releaseSeconds, now: clock.now())
        while true {
            try mark?.make()
            do throws(DeviceError) { return try control.startRecovery(id) } catch {
                // The driver refuses before it changes anything. What it has not answered it may still do.
                if error.errno != nil { mark?.remove() }
                // Somebody else may have been quicker.
                _ = try find()
                guard error.errno == .resourceBusy, !limit.isOver(now: clock.now()) else {
                    throw error
                }
            }
            clock.pause(Self.pauseMilliseconds)
        }
    }

    // MARK: Refusals

    /// Why the device is not recovered; nil: it may be, once the driver has noticed that its server is dead.
    ///
    /// - Parameter server: the process that serves it; nil: none does.
    static func refusal(_ record: DeviceRecord, _ info: DeviceInfo, server: Int32?) -> String? {
        let id = DeviceID(record.id)
        if info.cookie != record.cookie { return other(id) }
        if info.state == .live, let server {
            return served(id, server)
        }
        guard info.features.contains(.userRecovery) else {
            return """
                device \(id) was added without recovery, so it ended with its server. Clean it up: \
                ublk-script del \(id); and add it with recovery=wait, reissue or fail the next time
                """
        }
        if info.state == .dead { return stopped(id) }
        guard record.driver != nil, record.loadedScript != nil else {
            return """
                device \(id): its record has not all that serving it again takes, as an older ublk-script wrote it. \
                What is left: ublk-script del \(id)
                """
        }
        return nil
    }

    private static func served(_ id: DeviceID, _ server: Int32) -> String {
        "device \(id) is served by process \(server): there is nothing to recover"
    }

    private static func other(_ id: DeviceID) -> String {
        """
        device \(id) is another program's; the one that the record tells of is gone. \
        Remove the record: ublk-script del \(id)
        """
    }

    private static func stopped(_ id: DeviceID) -> String {
        "device \(id) is stopped, for good. Clean it up: ublk-script del \(id)"
    }
}
