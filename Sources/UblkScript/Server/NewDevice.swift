import Glibc
import SystemPackage

/// The driver's part of bringing a device up to START_DEV: ADD_DEV, SET_PARAMS, the nodes.
///
/// The two commands may wait in the kernel, but the server itself may give them because it serves nothing yet: it has
/// not opened `/dev/ublkcN`, so nobody can wait for it. ADD_DEV waits for a DEL of any device, but can be killed;
/// SET_PARAMS waits for other commands for this device, which are short before it has a disk. See ``LockFreeQueries``.
struct NewDevice {
    let access: any DriverAccess
    let clock: WaitClock

    // A node may appear late where a program makes it, and udev may keep one open for a moment: retry for 3 s.
    private static let pauseMilliseconds: UInt32 = 10
    private static let rounds = 300

    func add(_ asked: DeviceInfo) throws(DeviceError) -> DeviceInfo {
        do throws(DeviceError) { return try ControlDevice(access.control()).add(asked) } catch {
            throw explained(error, asked)
        }
    }

    /// Explains an error of ADD_DEV when the number is taken by a device without a server, or by a deleted one.
    private func explained(_ error: DeviceError, _ asked: DeviceInfo) -> DeviceError {
        guard error.errno == .fileExists, let id = asked.id, let control = try? access.control(),
            let known = try? DriverQueries(control).info(of: id)
        else { return error }
        if known.state.waitsForServer {
            return .unsupported(
                """
                \(error); its server died: ublk-script recover \(id) brings it back, if ublk-script made it
                """
            )
        }
        guard DeviceUsers.isDeleted(id, known) else { return error }
        let story = DeviceUsers(of: id).descriptionOfDeleted
        return .unsupported("device \(id) is \(story): wait for that, or choose another -n")
    }

    func setParams(_ params: DeviceParams, of device: DeviceID) throws(DeviceError) {
        try ControlDevice(access.control()).setParams(params, of: device)
    }

    /// Opens `/dev/ublkcN`, waiting for it up to 3 s.
    func open(_ device: DeviceID) throws(DeviceError) -> Int32 {
        var problem = Errno.noSuchFileOrDirectory
        for _ in 0..<Self.rounds {
            do throws(DeviceNode.Problem) { try access.checkNode(device.characterPath) } catch {
                if case .other = error { throw .unsupported("device \(device): \(error)") }
            }
            do throws(Errno) { return try access.openCharacterDevice(device) } catch {
                problem = error
            }
            let mayPass: [Errno] = [.noSuchFileOrDirectory, .resourceBusy, .permissionDenied]
            guard mayPass.contains(problem) else { break }
            clock.pause(Self.pauseMilliseconds)
        }
        throw .system(call: "open", path: device.characterPath, problem)
    }

    /// Waits, up to 3 s, until both nodes exist, and checks that they are the driver's.
    ///
    /// The kernel makes them before START_DEV ends; a program that makes them may be later. Any other file in their
    /// place would accept writes that never reach the device.
    func waitForNodes(of device: DeviceID) throws(DeviceError) {
        for round in 0... {
            do throws(DeviceNode.Problem) {
                try access.checkNode(device.blockPath)
                return try access.checkNode(device.characterPath)
            } catch {
                if case .missing = error, round < Self.rounds {
                    clock.pause(Self.pauseMilliseconds)
                    continue
                }
                throw .unsupported("device \(device): \(error)")
            }
        }
    }
}
