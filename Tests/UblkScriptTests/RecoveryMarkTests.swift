import CUring
import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// Where a second recovery may crash the kernel, one that broke off leaves a mark, and the next one is refused.
@Suite struct RecoveryMarkTests {
    private static let id = DeviceID(0)
    private let world = ServerWorld()

    private var hasMark: Bool {
        var status = stat()
        return unsafe lstat(world.state.markPath(Self.id), &status) == 0
    }

    private var recoveries: Int { world.driver.given.filter { $0 == .startRecovery }.count }

    /// A device whose server died, on a kernel that crashes.
    private func orphan(busyRecoveries: Int = 0) throws -> DeviceRecord {
        world.kernelRelease = "6.12.118+deb13-cloud-amd64"
        return try RecoveryTests.orphan(world, busyRecoveries: busyRecoveries)
    }

    /// A recovery that does not come up; says why.
    private func breakOff(_ record: DeviceRecord) throws -> String {
        let server = try world.server(recovering: record)
        do {
            _ = try server.bringUp()
            Issue.record("it came up")
            return ""
        } catch { return "\(error)" }
    }

    private func clear() {
        world.driver.lose(Self.id)
        world.state.remove(Self.id)
    }

    @Test(arguments: [
        ("6.12.118", 2, true), ("6.14.0", 2, true), ("6.12.118", 1, false), ("6.15.0", 2, false),
        ("7.3.0", 2, false),
    ])
    func `the mark is there from before START_USER_RECOVERY until after END_USER_RECOVERY`(
        release: String,
        queues: Int,
        isMarked: Bool
    ) throws {
        world.queueCount = queues
        world.kernelRelease = release
        let record = try RecoveryTests.orphan(world)
        #expect(!hasMark)
        let path = world.state.markPath(Self.id)
        let seen = Shared<[ControlCommand.Kind]>([])
        world.driver.onCommand { kind, _ in
            var status = stat()
            if unsafe lstat(path, &status) == 0 { seen.change { $0.append(kind) } }
        }
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        let wanted: [ControlCommand.Kind] = [
            .startRecovery, .getQueueAffinity, .getQueueAffinity, .endRecovery,
        ]
        #expect(seen.value == (isMarked ? wanted : []))
        #expect(!hasMark)
        world.driver.onCommand(nil)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `after a recovery that broke off the next one is refused before its command`() throws
    {
        let record = try orphan()
        let before = world.state.readRecord(Self.id)
        world.queues.problem.set("queue 1: no ring")
        #expect(try breakOff(record).contains("no ring"))
        world.queues.problem.set(nil)
        #expect(hasMark && recoveries == 1)
        for _ in 0..<2 {
            let text = try breakOff(record)
            for part in [
                "device 0 is not recovered", "broke off before all its queues were up",
                "can crash this kernel (6.12.118+deb13-cloud-amd64: ", "before 6.15",
                "What is left: ublk-script del 0",
            ] { #expect(text.contains(part), "\(text)") }
        }
        #expect(hasMark && recoveries == 1 && !world.driver.hasOpenNode)
        #expect(world.driver.stateOfDevice(Self.id) == .quiesced)
        #expect(world.state.readRecord(Self.id) == before && world.queues.running == 0)
        // A kernel that is asked again does no harm.
        world.kernelRelease = "6.15.0"
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles, "the mark goes with the device")
    }

    /// What the driver refuses it has not begun.
    @Test(arguments: [Errno.invalidArgument, .resourceBusy, .interrupted])
    func `no mark is left of a START_USER_RECOVERY that the driver refused`(errno: Errno) throws {
        let record = try orphan(busyRecoveries: errno == .resourceBusy ? 1 << 40 : 0)
        if errno != .resourceBusy { world.driver.fail(.startRecovery, errno) }
        _ = try breakOff(record)
        #expect(!hasMark && recoveries > 0)
        world.driver.killServer(Self.id)
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `an END_USER_RECOVERY that fails leaves the mark, what fails later not`() throws {
        let record = try orphan()
        world.driver.failNode("/dev/ublkb", .other(path: "/dev/ublkb0", what: "a folder"))
        #expect(try breakOff(record).contains("a folder"))
        #expect(!hasMark, "all queues were up")
        world.driver.failNode("", nil)
        world.driver.fail(.endRecovery, .interrupted)
        #expect(try breakOff(record).contains("END_USER_RECOVERY"))
        #expect(hasMark)
        clear()
    }

    /// The driver may let go of the dead server between two tries, and another recovery be quicker, and break off.
    @Test func `a recovery that waits is refused when another one has broken off`() throws {
        let record = try orphan(busyRecoveries: 1 << 40)
        let (state, driver) = (world.state, world.driver)
        driver.onCommand { kind, _ in
            if kind == .getDeviceInfo, driver.given.filter({ $0 == .startRecovery }).count == 3 {
                _ = try? state.makeMark(pid: 1, of: Self.id)
            }
        }
        #expect(try breakOff(record).contains("What is left: ublk-script del 0"))
        #expect(recoveries == 3 && hasMark)
        driver.onCommand(nil)
        clear()
    }

    @Test func `a recovery that is under way is named`() throws {
        let record = try orphan()
        // Another process with this program's name.
        let program = ScratchDirectory()
        let path = program.file("ublk-script")
        #expect(ProgramRun(shell: "cp /bin/sleep '\(path)'", in: program).exitCode == 0)
        var pid = pid_t()
        var argv = unsafe [strdup(path), strdup("60"), nil]
        defer { unsafe argv.forEach { unsafe free($0) } }
        try #require(unsafe posix_spawn(&pid, path, nil, nil, &argv, environ) == 0)
        var limit = TimeLimit(seconds: 20)
        while !ServerProcess.isAlive(pid), !limit.isOver() { usleep(1000) }
        #expect(try world.state.makeMark(pid: pid, of: Self.id) == nil)
        #expect(
            try breakOff(record)
                == "device 0 is being recovered by process \(pid): wait for that. See: ublk-script list 0"
        )
        #expect(hasMark && recoveries == 0)
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        #expect(try breakOff(record).contains("broke off before all its queues were up"))
        #expect(recoveries == 0)
        clear()
    }

    @Test func `a new device with the number of one that left a mark has none`() throws {
        #expect(try world.state.makeMark(pid: 1, of: Self.id) == nil)
        let record = try orphan()
        #expect(!hasMark)
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }
}
