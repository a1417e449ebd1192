import CLua
import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// What outlives a server: a file that is memory, the counters and cells in it, and what the next server makes of them.
@Suite struct LiveStateTests {
    private let scratch = ScratchDirectory()
    private let world = ServerWorld()
    private static let id = DeviceID(0)

    // MARK: The file

    private func made(_ name: String, count: Int = 4096, reach: Int = 0) throws -> MappedFile {
        try MappedFile(making: scratch.file(name), count: count, reach: reach) { _ in true }
    }

    private func found(_ name: String, counts: ClosedRange<Int>) throws -> MappedFile {
        try #require(try MappedFile(opening: scratch.file(name), counts: counts))
    }

    @Test func `what is stored is there for the next one who maps the file`() throws {
        let first = try made("live")
        unsafe first.bytes.storeBytes(of: 77, toByteOffset: 4000, as: UInt64.self)
        #expect(!first.isOf(5) && first.isOf(0))
        first.belong(to: 5)
        let second = try found("live", counts: 4096...4096)
        #expect(unsafe second.bytes.load(fromByteOffset: 4000, as: UInt64.self) == 77)
        #expect(second.isOf(5) && !second.isOf(6))
        var status = stat()
        let result = unsafe stat(scratch.file("live"), &status)
        try #require(result == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        #expect(status.st_blocks * 512 >= 4096, "all of it is allocated")
    }

    @Test func `a file that is made anew is zeroes, and the old one goes on for who has it`() throws
    {
        let first = try made("live")
        unsafe first.bytes.storeBytes(of: 77, as: UInt64.self)
        let second = try made("live")
        #expect(unsafe second.bytes.load(as: UInt64.self) == 0)
        #expect(unsafe first.bytes.load(as: UInt64.self) == 77)
    }

    @Test func `a file of another size, a link and a folder are not mapped`() throws {
        _ = try made("live")
        #expect(try MappedFile(opening: scratch.file("live"), counts: 4097...4097) == nil)
        #expect(try MappedFile(opening: scratch.file("none"), counts: 4096...4096) == nil)
        #expect(unsafe symlink(scratch.file("live"), scratch.file("link")) == 0)
        #expect(throws: MappedFile.Problem.system(call: "open", .tooManySymbolicLinkLevels)) {
            _ = try MappedFile(opening: scratch.file("link"), counts: 4096...4096)
        }
        unsafe mkdir(scratch.file("folder"), 0o700)
        #expect(throws: MappedFile.Problem.system(call: "open", .isDirectory)) {
            _ = try MappedFile(opening: scratch.file("folder"), counts: 4096...4096)
        }
    }

    @Test func `no room and a disk are refused, and leave no file`() throws {
        #expect {
            _ = try made("live", count: 1 << 61)
        } throws: {
            guard case MappedFile.Problem.system("allocate", _) = $0 else { return false }
            return true
        }
        #expect(throws: MappedFile.Problem.onDisk) {
            _ = try MappedFile(making: scratch.file("live"), count: 1) { _ in false }
        }
        #expect(DirectoryListing.names(scratch.path).isEmpty)
        let proc = unsafe open("/proc/self/status", O_RDONLY | O_CLOEXEC)
        #expect(!MappedFile.isInMemory(proc))
        close(proc)
    }

    @Test func `a file grows up to its reach, by zeroes that the next one finds, too`() throws {
        let first = try made("live", reach: 3 * 4096)
        #expect(!first.grow(to: 3 * 4096 + 1) && first.count == 4096)
        #expect(first.grow(to: 2 * 4096) && first.grow(to: 100) && first.count == 2 * 4096)
        #expect(unsafe first.bytes.load(fromByteOffset: 8184, as: UInt64.self) == 0)
        unsafe first.bytes.storeBytes(of: 77, toByteOffset: 8184, as: UInt64.self)
        let second = try found("live", counts: 4096...3 * 4096)
        #expect(second.count == 2 * 4096)
        #expect(unsafe second.bytes.load(fromByteOffset: 8184, as: UInt64.self) == 77)
        #expect(second.grow(to: 3 * 4096))
    }

    // MARK: Counters

    @Test func `counters in a file go on where they were`() throws {
        let bytes = RuleCounters.bytes(count: 3)
        let first = RuleCounters(count: 3, in: try made("live", count: bytes))
        first.startClock(at: Instant(nanoseconds: 1000))
        #expect(first.countFitting(2) == 1)
        #expect(first.countActing(2, limit: 2))
        first.startRunning(1, 2)
        first.stall(0, until: 99)
        first.turn(1, on: false)
        first.isPaused = true
        #expect(first.totals.countArriving(bytes: 512).ops == 1)
        let second = RuleCounters(count: 3, in: try found("live", counts: bytes...bytes))
        second.startClock(at: Instant(nanoseconds: 5000))
        #expect(second.deviceTime(Instant(nanoseconds: 1300)) == 300)
        #expect(second.countFitting(2) == 2)
        #expect(second.acted(2) == 1 && second.acted(0) == 0)
        #expect(second.countActing(2, limit: 2) && !second.countActing(2, limit: 2))
        #expect(second.goesOnRunning(1) && second.goesOnRunning(1) && !second.goesOnRunning(1))
        #expect(second.stallEnd(0) == 99)
        #expect(second.isOn(0) && !second.isOn(1) && second.isOn(2))
        #expect(second.isPaused)
        let totals = second.totals.countArriving(bytes: 1)
        #expect(totals.ops == 2 && totals.bytes == 512)
    }

    @Test(arguments: [true, false])
    func `an IO that was held when the server died counts when it does not come again`(
        comesAgain: Bool
    ) {
        let counters = RuleCounters(count: 2)
        for _ in 0..<5 { _ = counters.countFitting(1) }
        for _ in 0..<3 { _ = counters.countActing(1, limit: 3) }
        for holds in [true, true, true, false] { counters.hold(1, holds) }
        counters.hold(0, true)
        counters.forgetHeld(comeAgain: comesAgain)
        #expect(counters.acted(1) == (comesAgain ? 1 : 3) && counters.acted(0) == 0)
        #expect(counters.countFitting(1) == (comesAgain ? 4 : 6))
        counters.forgetHeld(comeAgain: true)
        #expect(counters.acted(1) == (comesAgain ? 1 : 3), "only once")
    }

    @Test func `the counters of a reloaded script begin anew, but for clock, totals and pause`()
        throws
    {
        let first = RuleCounters(count: 1)
        first.startClock(at: Instant(nanoseconds: 1000))
        first.isPaused = true
        _ = first.totals.countArriving(bytes: 512)
        _ = first.countActing(0, limit: 0)
        let file = try made("live", count: RuleCounters.bytes(count: 2))
        let second = RuleCounters(count: 2, in: file, after: first)
        second.takeTotals(of: first)
        #expect(second.deviceTime(Instant(nanoseconds: 1300)) == 300)
        let totals = second.totals.countArriving(bytes: 1)
        #expect(totals.ops == 2 && totals.bytes == 512)
        #expect(second.isPaused && second.acted(0) == 0)
    }

    // MARK: Cells

    private func madeCells(reach: Int = CellTable.fileBytes.upperBound) throws -> MappedFile {
        try made("cells", count: CellTable.fileBytes.lowerBound, reach: reach)
    }

    @Test func `cells in a file are found again, with names, values and times`() throws {
        let first = SharedObjects(queues: 1, cells: try madeCells())
        for number in 1...200 {
            first.cell(US_CELL_COUNTER, "n\(number)")?.set(Int64(number))
            first.cell(US_CELL_STATE_NAME, "n\(number)")?.set(0)
        }
        let long = String(repeating: "x", count: Int(US_NAME_BYTES_MAX))
        first.cell(US_CELL_MARK, long)?.mark(at: 77)
        first.cell(US_CELL_STATE, "")?.set(3)
        let second = SharedObjects(
            queues: 1,
            cells: try found("cells", counts: CellTable.fileBytes)
        )
        for number in 1...200 {
            let cell = try #require(second.cell(US_CELL_COUNTER, "n\(number)"))
            let isSame = cell.value == Int64(number) && cell.number == UInt32(number)
            #expect(isSame)
        }
        #expect(second.stateName == "n3")
        #expect(second.countOfMark(long) == 1 && second.timeOfMark(long) == 77)
        let new = second.cell(US_CELL_COUNTER, "new")?.number
        #expect(new == 201)
        second.cell(US_CELL_COUNTER, "n7")?.set(-7)
        let third = SharedObjects(queues: 1, cells: try found("cells", counts: CellTable.fileBytes))
        let value = third.cell(US_CELL_COUNTER, "n7")?.value
        let number = third.cell(US_CELL_COUNTER, "new")?.number
        #expect(value == -7 && number == 201)
    }

    @Test func `a cell that has no room is none, and those before it stay`() throws {
        let shared = SharedObjects(queues: 1, cells: try madeCells(reach: 4096))
        let made = (1...40).prefix { shared.cell(US_CELL_COUNTER, "n\($0)") != nil }.count
        #expect(made == 4096 / 128 - 1)
        shared.cell(US_CELL_COUNTER, "n1")?.set(5)
        let value = shared.cell(US_CELL_COUNTER, "n1")?.value
        #expect(value == 5)
    }

    @Test func `loading a script on objects that go on changes none of them`() throws {
        let text = """
            local c = counter("n")
            c:set(5)
            local seen = c:add(2)
            state("new")
            function ctl(word) if word then c:add(1) state(word) end return seen, c:get(), state() end
            """
        let shared = SharedObjects(queues: 1)
        let first = try ScriptHarness(text, shared: shared)
        #expect(try first.ctl() == "7\t7\tnew")
        _ = try first.ctl("worn")
        let second = try ScriptHarness(text, shared: shared, options: .init(goesOn: true))
        #expect(try second.ctl() == "8\t8\tworn")
        #expect(try second.ctl("old") == "8\t9\told", "afterwards it does")
    }

    // MARK: Servers

    /// A device with two rules, whose server has died; `use` does something to its counters before.
    private func orphan(_ use: (RuleCounters) -> Void) throws -> DeviceRecord {
        world.recovery = .wait
        world.rules = """
            rule { name = "a", op = "read", times = 2, error = "EIO" }
            rule { name = "b", op = "write", error = "EIO" }
            """
        let server = try world.server()
        let record = try server.bringUp()
        use(server.ruleCounters)
        world.kill(server)
        return record
    }

    @Test func `the next server goes on with the counters and the clock`() throws {
        var start: Instant?
        let record = try orphan {
            _ = $0.countActing(0, limit: 2)
            $0.turn(1, on: false)
            start = $0.instant(at: 0)
        }
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        #expect(server.ruleCounters.acted(0) == 1)
        #expect(server.ruleCounters.isOn(0) && !server.ruleCounters.isOn(1))
        #expect(server.ruleCounters.instant(at: 0) == start)
        #expect(server.contexts.allSatisfy { $0.loadTime > Instant(nanoseconds: 0) })
        #expect(!world.log().contains("count from 0"))
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    /// What has become of the counters of the dead server.
    private static let losses: [(what: String, lose: @Sendable (String) -> Void)] = [
        ("gone", { unsafe unlink($0) }),
        ("shorter", { unsafe truncate($0, 64) }),
        (
            "of other rules",
            { path in
                let fd = unsafe open(path, O_WRONLY | O_CLOEXEC)
                var other: UInt64 = 4711
                _ = unsafe write(fd, &other, 8)
                close(fd)
            }
        ),
    ]

    @Test(arguments: losses.indices)
    func `counters that are not those of these rules are not used, and the log says so`(loss: Int)
        throws
    {
        let record = try orphan {
            _ = $0.countActing(0, limit: 2)
            $0.turn(1, on: false)
        }
        Self.losses[loss].lose(world.state.countersPath(Self.id, bank: 0))
        do {
            let server = try world.server(recovering: record)
            _ = try server.bringUp()
            #expect(server.ruleCounters.acted(0) == 0 && server.ruleCounters.isOn(1))
            #expect(world.log().contains("the rules count from 0, and all are on"))
            _ = server.ruleCounters.countActing(0, limit: 2)
            world.kill(server)
        }
        let third = try world.server(recovering: record)
        _ = try third.bringUp()
        #expect(third.ruleCounters.acted(0) == 1, "those of the second server are good")
        try third.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `the next server goes on with the cells, as soon as the scripts were loaded once`()
        throws
    {
        world.recovery = .wait
        // Each is gone before the next one wants its file.
        func server(_ recovering: DeviceRecord? = nil, _ body: (DeviceServer) throws -> Void) throws
        {
            let server = try recovering.map { try world.server(recovering: $0) } ?? world.server()
            try body(server)
            world.kill(server)
        }
        var first: DeviceRecord?
        try server {
            first = try $0.bringUp()
            $0.contexts[0].shared.cell(US_CELL_MARK, "go")?.mark(at: 77)
            #expect(!$0.contexts[0].goesOn)
        }
        let record = try #require(first)
        try server(record) {
            _ = try $0.bringUp()
            #expect($0.contexts.allSatisfy { $0.goesOn && $0.shared.timeOfMark("go") == 77 })
        }
        #expect(unsafe truncate(world.state.cellsPath(Self.id), 1) == 0)
        world.queues.problem.set("queue 1: no ring")
        do {
            let third = try world.server(recovering: record)
            #expect { _ = try third.bringUp() } throws: { "\($0)".contains("no ring") }
        }
        world.queues.problem.set(nil)
        let fourth = try world.server(recovering: record)
        _ = try fourth.bringUp()
        #expect(fourth.contexts.allSatisfy { !$0.goesOn && $0.shared.timeOfMark("go") == nil })
        #expect(world.log().contains("sets of ranges, counters, marks and the state begin"))
        try fourth.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `new counters that cannot be made leave the device waiting`() throws {
        let record = try orphan { _ in }
        let path = world.state.countersPath(Self.id, bank: 0)
        unsafe unlink(path)
        unsafe mkdir(path, 0o700)
        let server = try world.server(recovering: record)
        #expect { _ = try server.bringUp() } throws: { "\($0)".contains("create \(path)") }
        #expect(world.driver.stateOfDevice(Self.id) == .quiesced && world.queues.running == 0)
        world.driver.lose(Self.id)
        unsafe rmdir(path)
        world.state.remove(Self.id)
    }

    @Test func `a state directory on a disk has no counters, which the log says`() throws {
        world.isInMemory = false
        let record = try orphan { _ = $0.countActing(0, limit: 2) }
        #expect(world.log().contains("is on a disk"))
        #expect(!DirectoryListing.names(world.state.path).contains("0.live"))
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        #expect(server.ruleCounters.acted(0) == 0)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }
}
