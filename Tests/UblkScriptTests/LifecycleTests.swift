import CUring
import Glibc
import Synchronization
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// A device that comes up, or does not, over a driver in memory.
@Suite struct LifecycleTests {
    typealias Step = Lifecycle.Step

    /// Something that goes wrong on the way up.
    struct Failure: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let step: Step
        /// What the error says.
        let says: [String]
        /// What the test itself left in the state directory.
        var left: [String] = []
        let arrange: @Sendable (ServerWorld) -> Void

        init(
            _ what: String,
            _ step: Step,
            says: [String],
            left: [String] = [],
            _ arrange: @escaping @Sendable (ServerWorld) -> Void
        ) {
            testDescription = what
            self.step = step
            self.says = says
            self.left = left
            self.arrange = arrange
        }
    }

    static let failures: [Failure] =
        [
            Failure("a driver that is too old", .device, says: ["too old", "6.12 or later"]) {
                $0.driver.offer([])
            },
            Failure("no memory for the device", .device, says: ["(ENOMEM)", "fewer queues (-q)"]) {
                $0.driver.fail(.addDevice, .noMemory)
            },
            Failure("less than was asked for", .grant, says: ["device 0", "granted other"]) {
                $0.driver.grant { $0.max_io_buf_bytes = 512 }
            },
            Failure("a state directory that others write to", .names, says: ["is not used"]) {
                unsafe chmod($0.state.path, 0o777)
            },
            Failure("a log that cannot be made", .log, says: ["no log"]) { _ in },
            Failure("parameters that are dropped", .parameters, says: ["did not keep"]) {
                $0.driver.keepParams { $0.basic.dev_sectors = 8 }
            },
            Failure(
                "a record that cannot be written",
                .record,
                says: ["create", ".0.json.tmp"],
                left: [".0.json.tmp"]
            ) { unsafe mkdir($0.state.path + "/.0.json.tmp", 0o700) },
            Failure("a taken socket", .socket, says: ["listen at"], left: ["0.sock"]) {
                unsafe mkdir($0.state.socketPath(DeviceID(0)), 0o700)
            },
            Failure("a node that never comes", .character, says: ["open /dev/ublkc0", "ENOENT"]) {
                $0.driver.failOpen(.noSuchFileOrDirectory)
            },
            Failure("a node that may not be opened", .character, says: ["(ENXIO)"]) {
                $0.driver.failOpen(.noSuchAddressOrDevice)
            },
            Failure("another file in the node's place", .character, says: ["a regular file"]) {
                $0.driver.failNode(
                    "/dev/ublkc",
                    .other(path: "/dev/ublkc0", what: "a regular file")
                )
            },
            Failure(
                "counters that cannot be written",
                .live,
                says: ["create", "0.live", "make room in", "without recovery"],
                left: ["0.live"]
            ) {
                $0.recovery = .wait
                unsafe mkdir($0.state.countersPath(DeviceID(0), bank: 0), 0o700)
            },
            Failure("a queue that does not come up", .queues, says: ["queue 1: no ring"]) {
                $0.queues.problem.set("queue 1: no ring")
            },
            Failure("a START that is refused", .disk, says: ["START_DEV of device 0", "EINVAL"]) {
                $0.driver.fail(.startDevice, .invalidArgument)
            },
            Failure("a process beside it that dies", .disk, says: ["gives START_DEV", "died"]) {
                let processes = $0.processes
                $0.driver.onCommand { kind, _ in if kind == .startDevice { processes.kill() } }
            },
            Failure("another file in the disk's place", .nodes, says: ["a folder, not the device"])
            {
                $0.driver.failNode("/dev/ublkb", .other(path: "/dev/ublkb0", what: "a folder"))
            },
            Failure("a disk without a node", .nodes, says: ["/dev/ublkb0 is not there"]) {
                $0.driver.failNode("/dev/ublkb", .missing(path: "/dev/ublkb0"))
            },
        ]
        + commands.map { kind, step in
            Failure("\(kind.rawValue) is interrupted", step, says: [kind.rawValue, "(EINTR)"]) {
                $0.driver.fail(kind, .interrupted)
            }
        }

    /// Every command of the way up.
    static let commands: [(kind: ControlCommand.Kind, step: Step)] = [
        (.getFeatures, .device), (.addDevice, .device), (.setParams, .parameters),
        (.getParams, .parameters), (.getQueueAffinity, .queues), (.startDevice, .disk),
        (.getDeviceInfo, .nodes),
    ]

    /// The error of a device that does not come up.
    private func problem(bringingUp server: DeviceServer) -> String? {
        do {
            _ = try server.bringUp()
            return nil
        } catch { return "\(error)" }
    }

    @Test(arguments: failures)
    func `a step that fails says why, and leaves nothing of the device`(failure: Failure) throws {
        let world = ServerWorld()
        failure.arrange(world)
        let server = try world.server(
            openLog: failure.step == .log ? { _ in throw DeviceError.unsupported("no log") } : nil
        )
        let error = try #require(problem(bringingUp: server))
        for part in failure.says { #expect(error.contains(part), "\(error)") }
        #expect(server.lifecycle.done.isEmpty)
        #expect(world.leftovers(except: failure.left).isEmpty)
        for name in failure.left { unsafe rmdir(world.state.path + "/" + name) }
    }

    @Test func `every step that can fail is among those that were seen failing`() {
        let seen = Set(Self.failures.map(\.step))
        #expect(Set(Step.allCases).subtracting(seen) == [.faults])
    }

    @Test(arguments: commands.dropFirst())
    func `whatever command a server dies in, the aftermath leaves nothing`(
        kind: ControlCommand.Kind,
        step: Step
    ) throws {
        let world = ServerWorld()
        let server = try world.server()
        let hasDied = Shared(false)
        let aftermath = Aftermath(cookie: world.cookie, files: world.madeFiles)
        let (driver, state, clock) = (world.driver, world.state, world.clock.clock)
        let left = Shared(["the command was not given"])
        driver.onCommand { given, _ in
            guard given == kind, !hasDied.value else { return }
            hasDied.set(true)
            try? aftermath.clean(state: state, driver, clock: clock)
            let names = DirectoryListing.names(state.path)
            left.set(driver.presentIDs().map { "device \($0)" } + names)
        }
        // A dead server does no more; this one goes on and finds that its device is gone.
        if problem(bringingUp: server) == nil { #expect(server.leave()) }
        #expect(left.value == [])
        #expect(world.leftovers().isEmpty)
    }

    @Test func `the aftermath leaves the devices of others alone`() throws {
        let world = ServerWorld()
        world.driver.addForeign(DeviceID(3), cookie: world.cookie + 1)
        try world.state.writeRecord([1], of: DeviceID(3))
        try Aftermath(cookie: world.cookie).clean(
            patiently: true,
            state: world.state,
            world.driver,
            clock: world.clock.clock
        )
        #expect(world.driver.presentIDs() == [DeviceID(3)])
        #expect(DirectoryListing.names(world.state.path) == ["3.json"])
    }

    // MARK: A whole life

    @Test func `a device takes every step, and is gone when it is deleted`() throws {
        let world = ServerWorld()
        let server = try world.server()
        let record = try server.bringUp()
        #expect(server.lifecycle.done == Step.allCases)
        #expect(
            world.driver.given == [
                .getFeatures, .addDevice, .setParams, .getParams, .getQueueAffinity,
                .getQueueAffinity, .startDevice, .getDeviceInfo,
            ]
        )
        #expect(record.id == 0 && record.cookie == world.cookie && record.serverPID == getpid())
        #expect(
            DirectoryListing.names(world.state.path).sorted() == [
                "0.json", "0.log", "0.lua", "0.sock",
            ]
        )
        #expect(world.queues.running == 2 && world.driver.hasOpenNode && world.driver.scans == 1)
        #expect(server.contexts.allSatisfy { $0.control.armed.load(ordering: .relaxed) })
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(server.lifecycle.done.isEmpty)
        // Bytes and ledger are the user's now.
        #expect(world.leftovers() == world.leftFiles && world.leftFiles.count == 2)
    }

    /// What a device still had when a command to take it away was through.
    private struct Seen: Sendable { var names: [String] = [], isOpen = false }

    @Test func `queues end after STOP, and node and names go before DEL`() throws {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        let seen = Shared<[ControlCommand.Kind: Seen]>([:])
        let (driver, path) = (world.driver, world.state.path)
        // Only a queue that still runs lets it go.
        driver.hold(1, DeviceID(0))
        driver.onCommand { kind, _ in
            let names = DirectoryListing.names(path).sorted()
            seen.change { $0[kind] = Seen(names: names, isOpen: driver.hasOpenNode) }
        }
        try server.takeDown(deletes: true, patienceSeconds: 5)
        let (stop, delete) = (seen.value[.stopDevice], seen.value[.deleteDevice])
        #expect(stop?.isOpen == true && stop?.names == ["0.json", "0.log", "0.lua", "0.sock"])
        #expect(delete?.isOpen == false && delete?.names == [])
    }

    @Test func `a safe stop leaves a disk that is open as it was, faults and all`() throws {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        world.driver.setOpeners(DeviceID(0), 1)
        #expect { try server.stopIfUnused(patienceSeconds: 5) } throws: {
            "\($0)" == "device 0 is in use: nothing was done"
        }
        #expect(server.status.faultsAreOn && server.status.remark.isEmpty)
        #expect(server.lifecycle.done == Lifecycle.Step.allCases && world.queues.running == 2)
        world.driver.setOpeners(DeviceID(0), 0)
        try server.stopIfUnused(patienceSeconds: 5)
        #expect(world.queues.running == 0 && !world.driver.hasOpenNode)
        #expect(world.driver.presentIDs() == [DeviceID(0)])
        #expect(server.lifecycle.done.last == .socket)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a safe stop that the driver does not know is refused before anything is done`()
        throws
    {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        world.driver.offer(Features(rawValue: 0x7fff))
        #expect { try server.stopIfUnused(patienceSeconds: 5) } throws: {
            "\($0)".contains("TRY_STOP_DEV, from 7.0")
        }
        #expect(!world.driver.given.contains(.tryStopDevice))
        #expect(server.lifecycle.done == Lifecycle.Step.allCases && world.queues.running == 2)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `a device that is stopped keeps its number, its record and its log`() throws {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        try server.takeDown(deletes: false, patienceSeconds: 5)
        #expect(
            server.lifecycle.done == [.device, .grant, .names, .log, .parameters, .record, .socket]
        )
        #expect(world.driver.presentIDs() == [DeviceID(0)])
        #expect(
            DirectoryListing.names(world.state.path).sorted() == [
                "0.json", "0.log", "0.lua", "0.sock",
            ]
        )
        #expect(world.queues.running == 0 && !world.driver.hasOpenNode)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a scan that is refused is a line of the log`() throws {
        let world = ServerWorld()
        world.driver.failScan(.resourceBusy)
        let server = try world.server()
        _ = try server.bringUp()
        #expect(world.log().contains("no partition scan: EBUSY"))
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `a driver that scans by itself is waited for, and not asked to scan again`() throws {
        let world = ServerWorld()
        world.driver.offer(Features(rawValue: 0x1fe))
        world.driver.keepBusy(looks: 100)
        let before = world.clock.clock.now()
        let server = try world.server()
        _ = try server.bringUp()
        #expect(world.driver.scans == 0)
        // As long as it reads, and until it has been quiet for a while.
        #expect(world.clock.clock.now() - before > 129_000_000)
        #expect(server.lifecycle.done == Step.allCases)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    // MARK: A stop that does not end

    private func problem(_ server: DeviceServer, patienceSeconds: Int) -> String {
        do throws(DeviceError) {
            try server.takeDown(deletes: true, patienceSeconds: patienceSeconds)
            return ""
        } catch { return "\(error)" }
    }

    @Test func `a stop that does not end says so, and the next one takes the device away`() throws {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        world.queues.holdsOn.set(true)
        world.driver.hold(1, DeviceID(0))
        let problem = problem(server, patienceSeconds: 0)
        #expect(problem.contains("STOP_DEV of device 0 had no answer from the driver within 0 s"))
        #expect(problem.contains("Until it ends device 0 runs on with its faults off."))
        #expect(server.lifecycle.done == Step.allCases)
        #expect(server.status.remark == "a stop did not end within 0 s without progress")
        #expect(!server.status.faultsAreOn)
        #expect(world.state.readRecord(DeviceID(0)) != nil && world.queues.running == 2)
        // The first one is still under way, and the second waits behind it.
        #expect(self.problem(server, patienceSeconds: 0).contains("STOP_DEV"))
        world.driver.letGo()
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a stop that moves has all the time it takes`() throws {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        world.queues.holdsOn.set(true)
        world.queues.isBusy.set(true)
        world.driver.hold(1, DeviceID(0))
        var threads = ThreadList()
        let driver = world.driver
        threads.start("test-later") {
            usleep(1_500_000)
            driver.letGo()
        }
        try server.takeDown(deletes: true, patienceSeconds: 1)
        threads.joinAll()
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a delete that another program was quicker with is done`() throws {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        let driver = world.driver
        driver.onCommand { kind, id in if kind == .stopDevice, let id { driver.lose(id) } }
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
        #expect(server.lifecycle.done.isEmpty)
    }

    @Test func `a delete that fails leaves the record, and can be given again`() throws {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        let before = world.state.readRecord(DeviceID(0))
        world.driver.fail(.deleteDevice, .interrupted)
        let problem = problem(server, patienceSeconds: 5)
        #expect(problem == "DEL_DEV_ASYNC of device 0 failed: Interrupted system call (EINTR)")
        #expect(world.state.readRecord(DeviceID(0)) == before && before != nil)
        #expect(contents(of: world.state.scriptPath(DeviceID(0), bank: 0)) == world.script)
        #expect(world.driver.presentIDs() == [DeviceID(0)] && world.queues.running == 0)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }
}
