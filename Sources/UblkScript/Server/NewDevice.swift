import Glibc
import SystemPackage

/// The driver's part of bringing a device up to START_DEV: ADD_DEV, SET_PARAMS, REG_BUF, the nodes.
///
/// The commands may wait in the kernel, but the server itself may give them because it serves nothing yet: it has
/// not opened `/dev/ublkcN`, so nobody can wait for it. ADD_DEV waits for a DEL of any device, but can be killed;
/// the others wait for other commands for this device, which are short before it has a disk. See ``LockFreeQueries``.
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

    /// Waits, up to 3 s, until a user may use the node of his device, which the kernel makes root's.
    ///
    /// Until then the driver takes no command for the device, not even DEL_DEV.
    func waitForOwnNode(of device: DeviceID) throws(DeviceError) {
        let path = device.characterPath
        guard !comesToBeUsable(path) else { return }
        var why = notGiven(device, path)
        do throws(DeviceNode.Problem) { try access.checkNode(path) } catch {
            why = "device \(device): \(error)"
        }
        throw .unsupported(
            """
            \(why)
            The device is left behind, as whoever cannot use that node cannot delete it: \
            sudo ublk-script del \(device) --without-record
            """
        )
    }

    private func comesToBeUsable(_ path: String) -> Bool {
        for round in 0..<Self.rounds {
            if round > 0 { clock.pause(Self.pauseMilliseconds) }
            if access.mayUse(path) { return true }
        }
        return false
    }

    private func notGiven(_ device: DeviceID, _ path: String) -> String {
        """
        device \(device): the kernel makes \(path) root's, and nobody has given it to you within 3 s. That is for udev, \
        with a rule that runs ublk-script give-node: see docs/operating.md (man ublk-script-operating)
        """
    }

    func setParams(_ params: DeviceParams, of device: DeviceID) throws(DeviceError) {
        try ControlDevice(access.control()).setParams(params, of: device)
    }

    /// Gives REG_BUF, which before there is a disk waits for nothing but SET_PARAMS does.
    func register(_ memory: SharedMemory, with device: DeviceID) throws(DeviceError) -> UInt16 {
        try ControlDevice(access.control()).register(memory, with: device)
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
    ///
    /// - Parameter own: the disk's has to be usable for this process, too, as it may not be for a user without root.
    func waitForNodes(of device: DeviceID, own: Bool) throws(DeviceError) {
        for round in 0... {
            do throws(DeviceNode.Problem) {
                try access.checkNode(device.blockPath)
                try access.checkNode(device.characterPath)
                break
            } catch {
                if case .missing = error, round < Self.rounds {
                    clock.pause(Self.pauseMilliseconds)
                    continue
                }
                throw .unsupported("device \(device): \(error)")
            }
        }
        guard !own || comesToBeUsable(device.blockPath) else {
            throw .unsupported(notGiven(device, device.blockPath))
        }
    }
}
