import CUring
import Glibc
import Synchronization
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// What a server's main thread does while it serves, over a driver in memory.
@Suite struct ServerLoopTests {
    private let world = ServerWorld()

    /// A server whose device is up and whose loop has something to look at, so that it does not begin with a pause.
    private func served(patienceSeconds: Int = 5) throws -> DeviceServer {
        let server = try world.server(patienceSeconds: patienceSeconds)
        _ = try server.bringUp()
        server.lines.write(.info, "up")
        return server
    }

    /// A pipe in place of the one that tells of signals.
    private final class Signals {
        let ends: (read: Int32, write: Int32)

        init() {
            var ends: [Int32] = [-1, -1]
            precondition(unsafe pipe(&ends) == 0, "pipe")
            self.ends = (ends[0], ends[1])
        }

        deinit {
            close(ends.read)
            close(ends.write)
        }

        /// As the kernel tells of one: 128 bytes, the number first.
        func send(_ signal: Int32) {
            var info = [UInt8](repeating: 0, count: 128)
            info[0] = UInt8(signal)
            _ = unsafe write(ends.write, info, info.count)
        }
    }

    /// Runs the loop until the device is stopped, while `others` does what it does on a thread of its own.
    private func run(
        _ server: DeviceServer,
        signal: Int32? = nil,
        _ others: @escaping @Sendable () -> Void = {}
    ) -> ServerLoop.Ending {
        let signals = Signals()
        if let signal { signals.send(signal) }
        var threads = ThreadList()
        threads.start("test-others", others)
        var loop = ServerLoop(server, signalFD: signals.ends.read)
        let ending = loop.run()
        threads.joinAll()
        return ending
    }

    /// The answer of the server at `path`, with the sign before it.
    private static func ask(_ path: String, _ words: [String]) -> String {
        guard let connection = AdminConnection(connectingTo: path, seconds: 20),
            let answer = try? connection.ask(words)
        else { return "none" }
        return (answer.ok ? "+" : "-") + answer.text
    }

    /// Gives the command as another program does.
    private static func give(_ kind: ControlCommand.Kind, _ driver: FakeDriver) {
        guard let control = try? driver.control() else { return }
        try? ControlDevice(control).give(kind, DeviceID(0), data: 0, seconds: 60)
    }

    // MARK: Who ends it

    @Test func `a signal deletes the device`() throws {
        let server = try served()
        #expect(run(server, signal: SIGTERM) == .deleted)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a signal whose stop does not end gives up, and the aftermath deletes`() throws {
        let server = try served(patienceSeconds: 0)
        world.queues.holdsOn.set(true)
        world.driver.hold(1, DeviceID(0))
        #expect(run(server, signal: SIGINT) == .givenUp)
        let log = world.log()
        #expect(log.contains("signal \(SIGINT): deleting device 0"))
        #expect(log.contains("the server ends: what it holds gets EIO, and the device is deleted"))
        // The end of the process lets go of everything.
        world.driver.letGo()
        server.endQueues()
        try server.aftermath.clean(state: world.state, world.driver, clock: world.clock.clock)
        #expect(world.driver.presentIDs().isEmpty)
        #expect(DirectoryListing.names(world.state.path).isEmpty)
    }

    @Test(arguments: ["stop", "del"])
    func `a request ends the device, and is answered`(word: String) throws {
        let server = try served()
        let answer = Shared("")
        let path = world.state.socketPath(DeviceID(0))
        let ending = run(server) { answer.set(Self.ask(path, [word, "5"])) }
        #expect(answer.value == "+")
        #expect(ending == (word == "del" ? .deleted : .stopped))
        #expect((world.state.readRecord(DeviceID(0)) == nil) == (word == "del"))
        #expect(world.queues.running == 0)
    }

    @Test func `a request that fails is told why, and the server goes on`() throws {
        let server = try served()
        world.queues.holdsOn.set(true)
        world.driver.hold(1, DeviceID(0))
        let answers = Shared<[String]>([])
        let (path, driver) = (world.state.socketPath(DeviceID(0)), world.driver)
        let ending = run(server) {
            answers.set([Self.ask(path, ["del", "0"]), Self.ask(path, ["status"])])
            driver.letGo()
        }
        // The STOP that was still under way has ended, and nobody asked for a DEL.
        #expect(ending == .stopped)
        #expect(world.state.readRecord(DeviceID(0)) != nil)
        try #require(answers.value.count == 2)
        #expect(answers.value[0].hasPrefix("-STOP_DEV of device 0 had no answer"))
        #expect(answers.value[1].hasPrefix("+faults off\nremark a stop did not end within 0 s"))
    }

    @Test func `a script that wants a stop gets one, and only one`() throws {
        let server = try served(patienceSeconds: 0)
        world.queues.holdsOn.set(true)
        world.driver.hold(1, DeviceID(0))
        server.contexts[1].control.wantsStop.store(true, ordering: .relaxed)
        let (path, driver) = (world.state.socketPath(DeviceID(0)), world.driver)
        let ending = run(server) {
            // Answered when the stop for the script has been tried, and after it might have been again.
            _ = Self.ask(path, ["status"])
            _ = Self.ask(path, ["stop", "0"])
            driver.letGo()
        }
        #expect(ending == .stopped)
        #expect(driver.given.count { $0 == .stopDevice } == 2)
        #expect(world.log().contains("Until it ends device 0 runs on with its faults off."))
    }

    @Test func `a script's stop that ends keeps the device for del`() throws {
        let server = try served()
        server.contexts[0].control.wantsStop.store(true, ordering: .relaxed)
        #expect(run(server) == .stopped)
        #expect(world.state.readRecord(DeviceID(0)) != nil)
        #expect(world.driver.presentIDs() == [DeviceID(0)] && world.queues.running == 0)
    }

    // MARK: Somebody else

    @Test(arguments: [ControlCommand.Kind.stopDevice, .deleteDevice], [false, true])
    func `somebody else's stop gets what is held, with or without the process beside us`(
        kind: ControlCommand.Kind,
        processDies: Bool
    ) throws {
        world.queues.holds.set(true)
        let server = try served()
        world.driver.hold(2, DeviceID(0))
        if processDies { world.processes.kill() }
        let driver = world.driver
        var threads = ThreadList()
        threads.start("test-stop") { Self.give(kind, driver) }
        // Before the server looks: a look that finds nothing is repeated a second later.
        while driver.hasDisk(DeviceID(0)) { usleep(500) }
        let ending = run(server)
        threads.joinAll()
        let log = world.log()
        if kind == .deleteDevice {
            #expect(ending == .deleted)
            #expect(world.leftovers() == world.leftFiles)
        } else {
            #expect(ending == .stopped)
            #expect(log.contains("another program is stopping device 0: releasing held IOs"))
            #expect(log.contains("device 0 was stopped by another program"))
            #expect(world.driver.presentIDs() == [DeviceID(0)])
            #expect(world.queues.running == 0 && !world.driver.hasOpenNode)
        }
        #expect(world.queues.drains > 0)
    }

    @Test(arguments: DeviceConfig.Recovery.allCases.dropFirst(), [false, true])
    func `somebody else's quiesce has the server hand the device over, with what it holds`(
        recovery: DeviceConfig.Recovery,
        holds: Bool
    ) throws {
        world.recovery = recovery
        world.queues.holds.set(holds)
        var server: DeviceServer? = try served()
        let driver = world.driver
        let ending = try run(#require(server)) { Self.give(.quiesceDevice, driver) }
        #expect(ending == .stopped)
        // Its files are locked as long as it is there.
        server = nil
        #expect(world.queues.drains == (recovery == .reissue ? 0 : 2))
        #expect(world.queues.running == 0 && !driver.given.contains(.stopDevice))
        #expect(driver.stateOfDevice(DeviceID(0)) == recovery.stateWithoutServer)
        let log = world.log()
        #expect(log.contains("another program has quiesced device 0"))
        #expect(log.contains("it waits for another server") && !log.contains("was stopped by"))
        let bytes = try #require(world.state.readRecord(DeviceID(0)))
        let record = try #require(RecordReading(bytes).record)
        let next = try world.server(recovering: record)
        _ = try next.bringUp()
        try next.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a stop that is taking the tags back is no quiesce`() throws {
        world.recovery = .wait
        let server = try served()
        server.contexts[0].control.hasLostTag.store(true, ordering: .relaxed)
        #expect(server.wasQuiesced)
        world.driver.change(DeviceID(0)) { $0.state = 0 }
        #expect(!server.wasQuiesced)
        Self.give(.stopDevice, world.driver)
        #expect(run(server) == .stopped)
        #expect(world.log().contains("device 0 was stopped by another program"))
    }

    @Test func `a number that has gone to another device keeps that one's record`() throws {
        let server = try served()
        let state = world.state
        world.driver.onCommand { kind, _ in
            guard kind == .deleteDevice else { return }
            try? state.writeRecord([1], of: DeviceID(0))
        }
        Self.give(.deleteDevice, world.driver)
        #expect(run(server) == .deleted)
        #expect(world.state.readRecord(DeviceID(0)) == [1])
    }

    // MARK: Lines

    @Test func `a queue's lines are logged as what they are`() throws {
        let server = try served()
        server.lines.write(.error, "one")
        server.lines.write(.warning, "two")
        server.lines.write(.info, "three")
        let log = Shared("")
        let (path, file) = (world.state.socketPath(DeviceID(0)), world.state.logPath(DeviceID(0)))
        _ = run(server) {
            _ = Self.ask(path, ["status"])
            log.set(contents(of: file) ?? "")
            _ = Self.ask(path, ["del", "5"])
        }
        for line in ["error one\n", "warning two\n", "info three\n"] {
            #expect(log.value.contains("Z " + line), "\(log.value)")
        }
    }
}
