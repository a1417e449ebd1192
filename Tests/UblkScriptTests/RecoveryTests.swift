import CUring
import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// A device whose server died is served again, or stays as it was, over a driver in memory.
@Suite struct RecoveryTests {
    private static let id = DeviceID(0)
    private let world = ServerWorld()

    /// A device whose server died, with the record that it left.
    static func orphan(
        _ world: ServerWorld,
        _ recovery: DeviceConfig.Recovery = .wait,
        busyRecoveries: Int = 0
    ) throws -> DeviceRecord {
        world.recovery = recovery
        let server = try world.server()
        let record = try server.bringUp()
        world.kill(server, busyRecoveries: busyRecoveries)
        return record
    }

    // MARK: Asking for it

    @Test(
        arguments: [
            (.off, []), (.wait, [.userRecovery]),
            (.reissue, [.userRecovery, .userRecoveryReissue]),
            (.fail, [.userRecovery, .userRecoveryFailIO]),
        ] as [(DeviceConfig.Recovery, Features)]
    )
    func `the driver is asked for the flags of the mode, and for QUIESCE_DEV with any of them`(
        recovery: DeviceConfig.Recovery,
        features: Features
    ) throws {
        world.recovery = recovery
        let server = try world.server()
        _ = try server.bringUp()
        let all: Features = [
            .userRecovery, .userRecoveryReissue, .userRecoveryFailIO, .quiesce,
        ]
        let wanted = recovery == .off ? features : features.union(.quiesce)
        #expect(server.info.features.intersection(all) == wanted)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a flag that the kernel lacks is named with the kernel that has it`() throws {
        world.recovery = .fail
        world.driver.offer(Features(rawValue: 0x1fe))
        let server = try world.server()
        #expect {
            _ = try server.bringUp()
        } throws: {
            "\($0)"
                == "recovery = \"fail\" needs UBLK_F_USER_RECOVERY_FAIL_IO, which the ublk driver has from "
                + "kernel 6.13 on, and this one's has not. See: ublk-script features"
        }
        #expect(world.driver.given == [.getFeatures])
        #expect(world.leftovers().isEmpty)
    }

    @Test func `what is only useful is not asked of a kernel that lacks it`() throws {
        world.recovery = .reissue
        world.driver.offer(Features(rawValue: 0x1fe))
        let server = try world.server()
        _ = try server.bringUp()
        #expect(!server.info.features.contains(.quiesce))
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    // MARK: Serving again

    @Test func `a device is served again with its script, its seed, its log and its ledger`() throws
    {
        let record = try Self.orphan(world)
        #expect(world.driver.stateOfDevice(Self.id) == .quiesced)
        let before = world.driver.given.count
        #expect(world.queues.beganArmed == 0)
        let server = try world.server(recovering: record)
        let again = try server.bringUp()
        #expect(
            Array(world.driver.given.dropFirst(before)) == [
                .getDeviceInfo, .getParams, .getDeviceInfo, .getParams, .startRecovery,
                .getQueueAffinity, .getQueueAffinity, .endRecovery, .getDeviceInfo,
            ]
        )
        #expect(server.lifecycle.done == Lifecycle.Step.recovering)
        #expect(again == record, "the pid is the same here")
        #expect(server.seed == record.seed)
        #expect(world.driver.stateOfDevice(Self.id) == .live && world.driver.scans == 1)
        #expect(world.queues.running == 2)
        #expect(world.queues.beganArmed == 2, "before any IO can arrive")
        #expect(world.log().contains("device 0 is live") && world.log().contains("served again"))
        #expect(contents(of: world.ledger)?.hasSuffix("{\"action\":\"recovered\"}\n") == true)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test(arguments: DeviceConfig.Recovery.allCases.dropFirst())
    func `a device dies and is served again as often as it takes`(recovery: DeviceConfig.Recovery)
        throws
    {
        var record = try Self.orphan(world, recovery)
        for _ in 0..<3 {
            let server = try world.server(recovering: record)
            record = try server.bringUp()
            world.kill(server)
            #expect(world.driver.stateOfDevice(Self.id) == recovery.stateWithoutServer)
        }
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a driver that has not let go of the dead server is waited for`() throws {
        let record = try Self.orphan(world, busyRecoveries: 20)
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        #expect(world.driver.given.filter { $0 == .startRecovery }.count == 20)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `the record and the script beside it are those that the device runs after a reload`()
        throws
    {
        world.recovery = .wait
        var first: DeviceServer? = try world.server()
        var record = try #require(first).bringUp()
        let second = world.state.scriptPath(Self.id, bank: 1)
        record.loadedScript = second
        try first?.lifecycle.keep(
            StoredRecord(json: JSON.encode(record), script: Array(world.script.utf8), bank: 1)
        )
        if let first { world.kill(first) }
        first = nil
        let server = try world.server(recovering: record)
        #expect(try server.bringUp().loadedScript == second)
        #expect(contents(of: second) == world.script)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a shipped script is fitted to the device that it was reloaded into`() throws {
        let record = try Self.orphan(world)
        let shipped = try #require(ShippedScript.named("error"))
        let request = DeviceServer.Request(
            source: ScriptSource(shipped),
            recovered: record,
            encode: { JSON.encode($0) },
            openLog: { _ in LogSink() }
        )
        let config = try DeviceServer.plan(request).config
        #expect(config.sizeBytes == 1 << 20 && config.depth == 1 && config.maxIOBytes == 4096)
        #expect(config.file == world.disk && config.backing == .file && config.recovery == .wait)
        #expect(config.params(sizeBytes: 1 << 20) == record.driver?.params)
    }

    @Test(arguments: [DeviceConfig.Recovery.off, .wait])
    func `the disk is synced before a STOP that would let no write through`(
        recovery: DeviceConfig.Recovery
    ) throws {
        world.recovery = recovery
        let server = try world.server()
        _ = try server.bringUp()
        let synced = Shared(-1)
        let driver = world.driver
        driver.onCommand { kind, _ in if kind == .stopDevice { synced.set(driver.syncs) } }
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(synced.value == (recovery == .off ? 0 : 1))
    }

    @Test(arguments: DeviceConfig.Recovery.allCases.dropFirst())
    func `a device that was quiesced waits for a server, which gets the IO or finds it answered`(
        recovery: DeviceConfig.Recovery
    ) throws {
        world.recovery = recovery
        var first: DeviceServer? = try world.server()
        let record = try #require(first).bringUp()
        try first?.quiesce(patienceSeconds: 5)
        #expect(first?.lifecycle.done.last == .socket && world.queues.running == 0)
        first = nil
        #expect(world.queues.drains == (recovery == .reissue ? 0 : 2))
        #expect(world.driver.stateOfDevice(Self.id) == recovery.stateWithoutServer)
        #expect(world.state.readRecord(Self.id) != nil)
        #expect(!world.driver.given.contains(.stopDevice))
        let second = try world.server(recovering: record)
        _ = try second.bringUp()
        try second.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a quiesce that is not possible is refused, and nothing is changed`() throws {
        let plain = try world.server()
        _ = try plain.bringUp()
        #expect { try plain.quiesce(patienceSeconds: 5) } throws: {
            "\($0)".contains("device 0 was added without recovery")
        }
        #expect(plain.status.faultsAreOn && world.queues.running == 2)
        try plain.takeDown(deletes: true, patienceSeconds: 5)
        let other = ServerWorld()
        other.recovery = .wait
        other.driver.offer(Features(rawValue: 0x1fe))
        let old = try other.server()
        _ = try old.bringUp()
        #expect { try old.quiesce(patienceSeconds: 5) } throws: {
            "\($0)".contains("quiesce of device 0 needs UBLK_F_QUIESCE")
                && "\($0)".contains("kernel 6.16")
        }
        #expect(!other.driver.given.contains(.quiesceDevice) && old.status.faultsAreOn)
        try old.takeDown(deletes: true, patienceSeconds: 5)
    }

    // MARK: What goes wrong

    /// Something that goes wrong on the way up.
    struct Obstacle: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let step: Lifecycle.Step
        let says: [String]
        let arrange: @Sendable (ServerWorld) -> Void
        let mend: @Sendable (ServerWorld) -> Void

        init(
            _ what: String,
            _ step: Lifecycle.Step,
            says: [String],
            _ arrange: @escaping @Sendable (ServerWorld) -> Void,
            mend: @escaping @Sendable (ServerWorld) -> Void = { _ in }
        ) {
            testDescription = what
            self.step = step
            self.says = says
            self.arrange = arrange
            self.mend = mend
        }
    }

    static let obstacles: [Obstacle] =
        [
            Obstacle("another program's device", .device, says: ["device 0 is another program's"]) {
                $0.driver.change(id) { $0.ublksrv_flags += 1 }
            } mend: {
                $0.driver.change(id) { $0.ublksrv_flags -= 1 }
            },
            Obstacle("another depth", .grant, says: ["another depth, max_io or io_desc_size"]) {
                $0.driver.change(id) { $0.queue_depth = 2 }
            } mend: {
                $0.driver.change(id) { $0.queue_depth = 1 }
            },
            Obstacle("a flag less", .device, says: ["needs UBLK_F_USER_RECOVERY_REISSUE"]) {
                $0.driver.change(id) { $0.flags &= ~Features.userRecoveryReissue.rawValue }
            } mend: {
                $0.driver.change(id) { $0.flags |= Features.userRecoveryReissue.rawValue }
            },
            Obstacle("a state directory that others write to", .names, says: ["is not used"]) {
                unsafe chmod($0.state.path, 0o777)
            } mend: {
                unsafe chmod($0.state.path, 0o755)
            },
            Obstacle("a driver that holds on", .character, says: ["device 0 is still open"]) {
                $0.driver.killServer(id, busyRecoveries: 1 << 40)
            } mend: {
                $0.driver.killServer(id)
            },
            Obstacle("a kernel that cannot again", .character, says: ["kernels before 6.15"]) {
                $0.driver.fail(.startRecovery, .invalidArgument)
            },
            Obstacle("a node that another one has", .character, says: ["open /dev/ublkc0"]) {
                $0.driver.failOpen(.resourceBusy)
            } mend: {
                $0.driver.failOpen(nil)
            },
            Obstacle("a queue that does not come up", .queues, says: ["queue 1: no ring"]) {
                $0.queues.problem.set("queue 1: no ring")
            } mend: {
                $0.queues.problem.set(nil)
            },
            Obstacle("a process beside it that dies", .disk, says: ["END_USER_RECOVERY", "died"]) {
                let processes = $0.processes
                $0.driver.onCommand { kind, _ in if kind == .endRecovery { processes.kill() } }
            } mend: {
                $0.driver.onCommand(nil)
            },
            Obstacle("another file in the disk's place", .nodes, says: ["a folder, not the device"])
            {
                $0.driver.failNode("/dev/ublkb", .other(path: "/dev/ublkb0", what: "a folder"))
            } mend: {
                $0.driver.failNode("", nil)
            },
            Obstacle("a record that cannot be written", .record, says: ["create", ".0.json.tmp"]) {
                unsafe mkdir($0.state.path + "/.0.json.tmp", 0o700)
            } mend: {
                unsafe rmdir($0.state.path + "/.0.json.tmp")
            },
        ]
        + [
            (ControlCommand.Kind.getDeviceInfo, Lifecycle.Step.device), (.getParams, .parameters),
            (.startRecovery, .character), (.getQueueAffinity, .queues), (.endRecovery, .disk),
        ].map { kind, step in
            Obstacle("\(kind.rawValue) is interrupted", step, says: [kind.rawValue, "(EINTR)"]) {
                $0.driver.fail(kind, .interrupted, times: step < .character ? 2 : 1)
            }
        }

    @Test(arguments: obstacles)
    func `a recovery that fails says why, leaves the device as it was, and can be given again`(
        obstacle: Obstacle
    ) throws {
        let record = try Self.orphan(world, .reissue)
        let before = world.state.readRecord(Self.id)
        obstacle.arrange(world)
        var server: DeviceServer? = try world.server(recovering: record)
        do {
            _ = try server?.bringUp()
            Issue.record("it came up")
        } catch {
            for part in obstacle.says { #expect("\(error)".contains(part), "\(error)") }
        }
        #expect(server?.lifecycle.done.isEmpty == true)
        server = nil
        #expect(world.driver.presentIDs() == [Self.id])
        #expect(world.driver.stateOfDevice(Self.id) == .quiesced)
        #expect(world.queues.running == 0 && !world.driver.hasOpenNode)
        #expect(world.state.readRecord(Self.id) == before && before != nil)
        #expect(contents(of: world.state.scriptPath(Self.id, bank: 0)) == world.script)
        #expect(world.leftFiles.count == 2)
        obstacle.mend(world)
        let second = try world.server(recovering: record)
        _ = try second.bringUp()
        #expect(world.driver.stateOfDevice(Self.id) == .live)
        try second.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `every step that can fail is among those that were seen failing`() {
        let seen = Set(Self.obstacles.map(\.step))
        // The log is opened as it was, or made; LifecycleTests and LiveStateTests have names that are taken.
        #expect(Set(Lifecycle.Step.allCases).subtracting(seen) == [.log, .socket, .live, .faults])
    }

    @Test func `a device that was stopped meanwhile, or is gone, is not recovered`() throws {
        let record = try Self.orphan(world)
        world.driver.change(Self.id) { $0.state = 0 }
        let server = try world.server(recovering: record)
        #expect { _ = try server.bringUp() } throws: {
            "\($0)" == "device 0 is stopped, for good. Clean it up: ublk-script del 0"
        }
        world.driver.lose(Self.id)
        #expect { _ = try server.bringUp() } throws: { "\($0)".contains("no ublk device 0") }
        world.state.remove(Self.id)
    }

    @Test func `of two that recover at once the second finds that there is a server`() throws {
        let record = try Self.orphan(world, busyRecoveries: 1 << 40)
        let server = try world.server(recovering: record)
        let driver = world.driver
        driver.onCommand { kind, id in
            // The other one has got as far as that, between two tries.
            if kind == .getDeviceInfo, driver.given.filter({ $0 == .startRecovery }).count == 3 {
                driver.serve(Self.id)
            }
        }
        #expect { _ = try server.bringUp() } throws: {
            "\($0)" == "device 0 is served by process 4711: there is nothing to recover"
        }
        #expect(driver.given.filter { $0 == .startRecovery }.count == 4)
        driver.lose(Self.id)
        world.state.remove(Self.id)
    }

    @Test func `a server that does not die is left alone`() throws {
        world.recovery = .wait
        let first = try world.server()
        let record = try first.bringUp()
        // Its files are locked, and it goes on.
        #expect { _ = try world.server(recovering: record) } throws: {
            "\($0)".contains("is in use")
        }
        #expect(world.driver.stateOfDevice(Self.id) == .live && world.queues.running == 2)
        try first.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `bytes that are gone are not made anew`() throws {
        let record = try Self.orphan(world)
        #expect(unsafe unlink(world.disk) == 0)
        #expect { _ = try world.server(recovering: record) } throws: {
            "\($0)".contains("is not there any more, and the device's bytes with it: put it back")
        }
        #expect(unsafe access(world.disk, F_OK) != 0)
        #expect(world.driver.stateOfDevice(Self.id) == .quiesced)
        world.driver.lose(Self.id)
        world.state.remove(Self.id)
    }
}
