import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// The messages between a server and the process that gives its control commands, and each side without the other.
@Suite struct OutsideControlTests {
    private func error(_ body: () throws(DeviceError) -> Void) -> DeviceError? {
        do throws(DeviceError) {
            try body()
            return nil
        } catch { return error }
    }

    private func error(_ answer: OutsideAnswer) -> DeviceError? {
        error { () throws(DeviceError) in _ = try answer.result(.deleteDevice, DeviceID(3)) }
    }

    // MARK: Letters

    @Test func `an answer comes out as it went in`() throws {
        var answer = OutsideAnswer(number: 7)
        answer.text = "no partition scan: EBUSY"
        #expect(OutsideAnswer(answer.message) == answer)
        #expect(try answer.result(.startDevice, DeviceID(3)) == "no partition scan: EBUSY")
        answer.isStopSeen = true
        #expect(OutsideAnswer(answer.message) == answer)
        answer.text = ""
        #expect(OutsideAnswer(answer.message) == answer)
    }

    @Test func `the driver's errno is the driver's errno again`() {
        var answer = OutsideAnswer(number: 7)
        answer.isOK = false
        answer.errno = ENODEV
        answer.text = "two\nlines"
        #expect(OutsideAnswer(answer.message) == answer)
        #expect(
            error(answer) == .command(.deleteDevice, DeviceID(3), .operationNotSupportedByDevice)
        )
        answer.errno = 0
        #expect(error(answer) == .unsupported("two\nlines"))
    }

    @Test(arguments: ["", "7", "7 +", "x + 0 text", "7 + x text"])
    func `what is no answer is none`(message: String) {
        #expect(OutsideAnswer(message) == nil)
    }

    @Test func `messages stay apart, and the end is seen`() {
        let ends = socketPair()
        defer { close(ends.1) }
        #expect(Companion.write("first", to: ends.0))
        #expect(Companion.write("second", to: ends.0))
        #expect(Companion.read(ends.1) == "first")
        #expect(Companion.read(ends.1) == "second")
        close(ends.0)
        #expect(Companion.read(ends.1) == nil)
        #expect(!Companion.write("third", to: ends.1))
    }

    // MARK: The server's side

    /// Processes that only hear; a test says their answers, beforehand if need be.
    private final class Processes {
        private(set) var ends: [Int32] = []
        /// The next one cannot be started.
        var problem: DeviceError?
        /// The next one has died before it was sent anything.
        var isBorn = true
        /// What the next one says, when it is asked.
        var answer: String?

        func start() throws(DeviceError) -> Companion {
            if let problem { throw problem }
            let (own, other) = socketPair()
            ends.append(other)
            if !isBorn { shutdown(other, Int32(SHUT_RDWR)) }
            if let answer { say(answer) }
            return Companion(fd: own, pid: nil)
        }

        deinit { for end in ends { close(end) } }

        /// What the newest one has heard last; nil: nothing.
        var heard: String? { ends.last.flatMap { Companion.read($0) } }
        func say(_ message: String) {
            if let end = ends.last { _ = Companion.write(message, to: end) }
        }
        /// The newest one ends, and reads what it was sent before.
        func end() { if let end = ends.last { shutdown(end, Int32(SHUT_WR)) } }
    }

    private func control(_ processes: Processes) throws -> OutsideControl {
        try OutsideControl(
            { () throws(DeviceError) in try processes.start() },
            notes: CommandLog(clock: .machine)
        )
    }

    @Test func `each command is a message with a number, and its answer is what it gives`() throws {
        let processes = Processes()
        let control = try control(processes)
        processes.say("1 + 0 no partition scan: EBUSY")
        let remark = try control.start(DeviceID(3), scans: true, progress: { 0 })
        #expect(remark == "no partition scan: EBUSY")
        #expect(processes.heard == "1 start 3 \(getpid()) scan")
        processes.say("2 + 0 ")
        #expect(try control.start(DeviceID(4), scans: false, progress: { 0 }).isEmpty)
        #expect(processes.heard == "2 start 4 \(getpid()) -")
        processes.say("3 + 0 ")
        try control.stop(DeviceID(3), seconds: 5, progress: { 0 })
        #expect(processes.heard == "3 stop 3")
        processes.say("4 - \(ENODEV) there is none")
        #expect(
            error { () throws(DeviceError) in try control.delete(DeviceID(3)) }
                == .command(.deleteDevice, DeviceID(3), .operationNotSupportedByDevice)
        )
        #expect(processes.heard == "4 delete 3")
    }

    @Test func `an answer that comes too late is not the next command's`() throws {
        let processes = Processes()
        let control = try control(processes)
        #expect(
            error { () throws(DeviceError) in
                try control.stop(DeviceID(3), seconds: 0, progress: { 0 })
            } == .timeout(.stopDevice, DeviceID(3), seconds: 0)
        )
        processes.say("1 - 5 the late one")
        processes.say("2 + 0 ")
        try control.delete(DeviceID(3))
    }

    @Test func `a command waits on while there is progress`() throws {
        let processes = Processes()
        let control = try control(processes)
        var looks: UInt64 = 0
        #expect(
            error { () throws(DeviceError) in
                try control.stop(DeviceID(3), seconds: 1) {
                    looks += 1
                    return min(looks, 12)
                }
            } == .timeout(.stopDevice, DeviceID(3), seconds: 1)
        )
        // A look is 0.1 s, a late one counts for two: 5 to 10 of them after the last progress, and at most 11 in all
        // for one who does not see progress.
        #expect(looks >= 12 + 5)
    }

    @Test func `a process that dies in the middle is told of, and the next command has another`()
        throws
    {
        let processes = Processes()
        let control = try control(processes)
        processes.end()
        let problem = error { () throws(DeviceError) in try control.delete(DeviceID(3)) }
        #expect(problem?.description.contains("gives DEL_DEV_ASYNC of device 3 died") == true)
        #expect(control.fd == -1)
        processes.answer = "2 + 0 "
        try control.delete(DeviceID(3))
        #expect(processes.heard == "2 delete 3" && processes.ends.count == 2)
    }

    @Test func `a process that has died before is replaced, and its message is sent again`() throws
    {
        let processes = Processes()
        let control = try control(processes)
        shutdown(processes.ends[0], Int32(SHUT_RDWR))
        control.look(at: DeviceID(3))
        #expect(processes.heard == "1 look 3" && processes.ends.count == 2)
        processes.say("1 ! 0 ")
        #expect(control.isStopping())
        #expect(!control.isStopping(), "told once")
    }

    @Test func `without a process a command says why, and a look is left out`() throws {
        let processes = Processes()
        let control = try control(processes)
        shutdown(processes.ends[0], Int32(SHUT_RDWR))
        processes.isBorn = false
        let problem = error { () throws(DeviceError) in try control.delete(DeviceID(3)) }
        #expect(
            problem == .unsupported("the process that gives control commands died at once")
        )
        processes.problem = .system(call: "posix_spawn", path: "/proc/self/exe", .noMemory)
        #expect(
            error { () throws(DeviceError) in try control.delete(DeviceID(3)) }
                == processes.problem
        )
        control.look(at: DeviceID(3))
        #expect(!control.isStopping())
    }

    // MARK: The process's side

    /// The process as a thread, and the server's end of its line.
    private final class Running {
        let driver = FakeDriver()
        let line: Companion
        private let other: Int32
        private var threads = ThreadList()

        init(silenceSeconds: Double = 5) {
            let (own, other) = socketPair()
            line = Companion(fd: own, pid: nil)
            self.other = other
            let driver = driver
            driver.addForeign(DeviceID(0), cookie: 1)
            driver.addForeign(DeviceID(1), cookie: 2)
            var threads = ThreadList()
            threads.start("test-outside") {
                OutsideProcess(socket: other, driver, silenceSeconds: silenceSeconds).run()
            }
            self.threads = threads
        }

        /// Commands that still wait may answer to it: the other end stays open.
        deinit {
            driver.letGo()
            shutdown(other, Int32(SHUT_RDWR))
            threads.joinAll()
        }

        func waitForEnd() { threads.joinAll() }

        func ask(_ message: String, milliseconds: Int32 = 20_000) -> Companion.Received {
            _ = line.send(message)
            return line.receive(milliseconds: milliseconds)
        }
    }

    @Test func `each message is a command to the driver, and its answer a message`() throws {
        let running = Running()
        #expect(running.ask("1 start 0 4711 scan") == .text("1 + 0 "))
        #expect(running.ask("2 start 1 4711 -") == .text("2 + 0 "))
        #expect(running.driver.scans == 1)
        let info = try DriverQueries(running.driver.control()).info(of: DeviceID(0))
        #expect(info.serverPID == 4711 && info.state == .live)
        running.driver.failScan(.resourceBusy)
        #expect(running.ask("3 start 0 4711 scan") == .text("3 + 0 no partition scan: EBUSY"))
        #expect(running.ask("4 stop 0") == .text("4 + 0 "))
        #expect(running.ask("5 delete 0") == .text("5 + 0 "))
        #expect(running.driver.presentIDs() == [DeviceID(1)])
    }

    @Test func `the driver's errno and a word that is none are answered`() throws {
        let running = Running()
        running.driver.fail(.stopDevice, .interrupted)
        #expect(
            running.ask("1 stop 0")
                == .text("1 - 4 STOP_DEV of device 0 failed: Interrupted system call (EINTR)")
        )
        #expect(
            running.ask("2 delete 7")
                == .text("2 - 19 there is no ublk device 7. See: ublk-script list")
        )
        #expect(
            running.ask("3 dance 0") == .text("3 - 0 outside-control: dance is no command")
        )
        #expect(running.ask("4 start 0") == .text("4 - 0 outside-control: start is no command"))
    }

    @Test func `a command that waits keeps no other from its answer`() {
        let running = Running()
        _ = running.ask("1 start 0 1 -")
        running.driver.hold(1, DeviceID(0))
        #expect(running.ask("2 stop 0", milliseconds: 100) == .nothing)
        #expect(running.ask("3 delete 1") == .text("3 + 0 "))
        running.driver.letGo()
        #expect(running.line.receive(milliseconds: 20_000) == .text("2 + 0 "))
    }

    @Test func `a look finds a stop that has taken the disk, at once`() {
        let running = Running(silenceSeconds: 1000)
        _ = running.ask("1 start 0 1 -")
        running.driver.hold(1, DeviceID(0))
        #expect(running.ask("2 stop 0", milliseconds: 100) == .nothing)
        #expect(running.ask("3 look 0") == .text("3 ! 0 "))
        running.driver.letGo()
        #expect(running.line.receive(milliseconds: 20_000) == .text("2 + 0 "))
    }

    @Test func `a look finds a stop that still writes back, because a question waits behind it`() {
        let running = Running(silenceSeconds: 0.3)
        _ = running.ask("1 start 0 1 -")
        running.driver.lock(DeviceID(0))
        #expect(running.ask("2 look 0") == .text("2 ! 0 "))
        // Lets the question go.
        running.driver.lose(DeviceID(0))
    }

    @Test func `a look that finds nothing is silent`() {
        let running = Running()
        _ = running.ask("1 start 0 1 -")
        _ = running.line.send("2 look 0")
        while running.driver.given != [.startDevice, .getParams] { usleep(1000) }
        #expect(running.ask("3 stop 0") == .text("3 + 0 "))
    }

    @Test func `an answer that cannot be sent ends the process, which the server sees`() {
        let running = Running()
        shutdown(running.line.fd, Int32(SHUT_RD))
        _ = running.line.send("1 stop 0")
        running.waitForEnd()
        #expect(running.driver.given == [.stopDevice])
    }

    @Test(arguments: ["", "nonsense", "1 stop", "x stop 0", "1 stop x"])
    func `what is no message ends the process`(message: String) {
        let running = Running()
        _ = running.line.send(message)
        running.waitForEnd()
        #expect(running.driver.given.isEmpty)
    }
}
