import Glibc
import SystemPackage

/// What the driver is asked for while a device comes up: ADD_DEV, SET_PARAMS, the nodes.
///
/// These two commands may wait in the kernel and are the server's own nevertheless, because it serves
/// nothing yet: it has no `/dev/ublkcN`, so nobody can wait for it. ADD_DEV waits behind a DEL of
/// any device, and a kill ends that; SET_PARAMS waits behind commands for a device that has no disk
/// yet, which are short. See ``LockFreeQueries``.
struct NewDevice {
    let access: any DriverAccess
    let clock: WaitClock

    /// A node may be late where a program makes it, and udev may hold one for a moment.
    private static let pauseMilliseconds: UInt32 = 10
    private static let rounds = 300

    func add(_ asked: DeviceInfo) throws(DeviceError) -> DeviceInfo {
        do throws(DeviceError) { return try ControlDevice(access.control()).add(asked) } catch {
            throw explained(error, asked)
        }
    }

    /// The number of a deleted device may stay taken.
    private func explained(_ error: DeviceError, _ asked: DeviceInfo) -> DeviceError {
        guard error.errno == .fileExists, let id = asked.id, let control = try? access.control(),
            let known = try? DriverQueries(control).info(of: id), DeviceUsers.isDeleted(id, known)
        else { return error }
        let story = DeviceUsers(of: id).storyOfDeleted
        return .unsupported("device \(id) is \(story): wait for that, or choose another -n")
    }

    func setParams(_ params: DeviceParams, of device: DeviceID) throws(DeviceError) {
        try ControlDevice(access.control()).setParams(params, of: device)
    }

    /// Opens `/dev/ublkcN`.
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

    /// The kernel makes the nodes before START_DEV ends; where a program does it, it may be late.
    ///
    /// What is there in their place stays there, and everything written to it would seem to work.
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
