import CUring
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// Devices of users without root: what the driver wants of each command for them, and what they are refused.
@Suite struct UnprivilegedTests {
    private let id = DeviceID(7)
    private let path = Array("/dev/ublkc7\0".utf8)

    /// A driver with a user's device: without its path no command is taken.
    ///
    /// - Parameter answer: to a command with the path in front, given the payload behind it.
    private func usersDriver(
        _ answer: @escaping RecordedControl.Answer = { _, _ throws(DeviceError) in }
    ) -> RecordedControl {
        let path = path
        return RecordedControl { command, payload throws(DeviceError) in
            guard command.kind != .addDevice, command.kind != .getFeatures else { return }
            guard Int(command.pathLength) == path.count, Array(payload.prefix(path.count)) == path,
                command.kind != .deleteDevice
            else { throw .command(command.kind, command.device, .invalidArgument) }
            var rest = Array(payload.dropFirst(path.count))
            try answer(command, &rest)
            payload = path + rest
        }
    }

    private func error(_ body: () throws(DeviceError) -> Void) -> DeviceError? {
        do throws(DeviceError) {
            try body()
            return nil
        } catch { return error }
    }

    // MARK: The path

    @Test func `a command for a device of root's goes as it is`() throws {
        let driver = RecordedControl()
        try ControlDevice(NodePathControl(driver)).stop(id)
        #expect(driver.sent.map(\.command) == [ControlCommand(kind: .stopDevice, device: id)])
        #expect(driver.sent[0].payload.isEmpty)
    }

    @Test func `a command for a user's device has the path of its node in front of the payload`()
        throws
    {
        let driver = usersDriver { _, payload throws(DeviceError) in
            payload[0] = 9
        }
        let control = NodePathControl(driver)
        var payload: [UInt8] = [1, 2, 3]
        var command = ControlCommand(kind: .setParams, device: id)
        try control.run(command, payload: &payload, seconds: 4)
        #expect(payload == [9, 2, 3])
        #expect(driver.kinds == [.setParams, .getDeviceInfo, .setParams])
        command.pathLength = 12
        #expect(driver.sent[2].command == command)
        #expect(driver.sent[2].payload == path + [1, 2, 3] && driver.sent[2].seconds == 4)
    }

    @Test func `an EINVAL about a device of root's is the answer`() {
        let driver = RecordedControl { command, _ throws(DeviceError) in
            guard command.kind == .startDevice else { return }
            throw .command(command.kind, command.device, .invalidArgument)
        }
        let control = ControlDevice(NodePathControl(driver))
        let found = error { () throws(DeviceError) in try control.start(id, serverPID: 1) }
        #expect(found == .command(.startDevice, id, .invalidArgument))
        #expect(driver.kinds == [.startDevice, .getDeviceInfo])
    }

    @Test func `another user's device is refused, and whose it is is said`() {
        let driver = usersDriver { command, _ throws(DeviceError) in
            throw .command(command.kind, command.device, .permissionDenied)
        }
        let control = ControlDevice(NodePathControl(driver))
        let found = error { () throws(DeviceError) in _ = try control.info(of: id) }
        #expect(found == .command(.getDeviceInfo, id, .permissionDenied))
        #expect(found?.isOutOfReach == true)
        let text = found?.description ?? ""
        #expect(text.contains("it is another user's") && text.contains("/dev/ublkc7"))
    }

    @Test func `a device that is to be made has no path`() {
        let driver = RecordedControl { command, _ throws(DeviceError) in
            throw .command(command.kind, command.device, .invalidArgument)
        }
        let info = DeviceInfo(id: id, queues: 1, depth: 1, maxIOBytes: 4096, features: [])
        let control = ControlDevice(NodePathControl(driver))
        #expect(error { () throws(DeviceError) in _ = try control.add(info) } != nil)
        #expect(driver.kinds == [.addDevice])
    }

    @Test func `a user's device is deleted by STOP_DEV and a DEL_DEV that is cut short`() throws {
        let driver = usersDriver { command, _ throws(DeviceError) in
            guard command.kind == .deleteDeviceAndWait else { return }
            throw .timeout(command.kind, command.device, seconds: 1)
        }
        try ControlDevice(NodePathControl(driver)).delete(id, seconds: 75)
        #expect(
            driver.kinds == [.deleteDevice, .getDeviceInfo, .stopDevice, .deleteDeviceAndWait]
        )
        #expect(driver.sent.map(\.seconds).suffix(2) == [75, 1])
    }

    @Test func `a user's device that may not be deleted is not`() {
        let driver = usersDriver { command, _ throws(DeviceError) in
            guard command.kind == .deleteDeviceAndWait else { return }
            throw .command(command.kind, command.device, .permissionDenied)
        }
        let control = ControlDevice(NodePathControl(driver))
        let found = error { () throws(DeviceError) in try control.delete(id) }
        #expect(found == .command(.deleteDeviceAndWait, id, .permissionDenied))
    }

    // MARK: The server

    private func world() -> ServerWorld {
        let world = ServerWorld()
        world.isAdministrator = false
        return world
    }

    @Test func `a user's server asks for a user's device, and scans no partitions`() throws {
        let world = world()
        let server = try world.server()
        _ = try server.bringUp()
        #expect(server.info.features.contains(.unprivilegedDevice))
        #expect(server.lifecycle.done == Lifecycle.Step.allCases)
        #expect(world.driver.scans == 0)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `root's server does not`() throws {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        #expect(!server.info.features.contains(.unprivilegedDevice))
        #expect(world.driver.scans == 1)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    private func problem(_ world: ServerWorld, _ settings: [String] = []) -> String {
        do {
            _ = try world.server(settings: settings).bringUp()
            return ""
        } catch { return "\(error)" }
    }

    @Test func `recovery is for root, which is told before a device is made`() {
        let world = world()
        world.recovery = .reissue
        #expect(problem(world).contains("recovery = \"reissue\" needs root"))
        #expect(!world.driver.given.contains(.addDevice) && world.leftovers().isEmpty)
    }

    @Test(arguments: [DataMode.userCopy, .zeroCopy, .autoBuf, .sharedMemory])
    func `data modes in which the server copies are for root`(mode: DataMode) {
        let world = world()
        let text = problem(world, ["data=\(mode.rawValue)"])
        #expect(text.contains("data = \"\(mode.rawValue)\" needs root"))
        #expect(!world.driver.given.contains(.addDevice) && world.leftovers().isEmpty)
    }

    @Test(arguments: [DataMode.copy, .needGetData, .batch])
    func `those in which the driver copies are for all`(mode: DataMode) throws {
        let world = world()
        let server = try world.server(settings: ["data=\(mode.rawValue)", "depth=2"])
        _ = try server.bringUp()
        #expect(server.data.mode == mode)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test(arguments: ["/dev/ublkc", "/dev/ublkb"])
    func `a node that nobody gives to the user is told, with who should have`(node: String) {
        let world = world()
        world.driver.keepNodes(node)
        let text = problem(world)
        #expect(text.contains("the kernel makes \(node)0 root's") && text.contains("udev"))
        // In memory anybody may delete it.
        #expect(text.contains("--without-record") == (node == "/dev/ublkc"))
        #expect(world.leftovers().isEmpty)
    }

    @Test func `a node that is not in this /dev is told so, as in a container`() {
        let world = world()
        world.driver.keepNodes("/dev/ublkc")
        world.driver.failNode("/dev/ublkc", .missing(path: "/dev/ublkc0"))
        let text = problem(world)
        #expect(text.contains("device 0: /dev/ublkc0 is not there") && text.contains("container"))
        #expect(text.contains("sudo ublk-script del 0 --without-record"))
    }

    // MARK: What is told

    @Test func `list tells whose device it is`() {
        var info = DeviceInfo(id: id, queues: 1, depth: 1, maxIOBytes: 4096, features: [])
        info.ownerUID = 4_000_000_001
        let roots = DeviceListing(info, id: id, record: nil)
        #expect(roots.ownerUID == nil && !roots.text.contains("owner"))
        info.features = .unprivilegedDevice
        let listing = DeviceListing(info, id: id, record: nil)
        #expect(listing.ownerUID == 4_000_000_001)
        let words = listing.text.split { $0 == " " || $0 == "\n" }.joined(separator: " ")
        #expect(words.contains(" owner user 4000000001"))
        #expect(UserName.text(0) == "root (0)")
    }
}
