import Glibc
import Logging
import SystemPackage

/// What a server's main thread does while the queues serve: log lines, signals, admin requests, and
/// the watch for a stop that somebody else asked the driver for.
struct ServerLoop {
    /// Why the loop ended.
    enum Ending: Equatable {
        /// The device is gone, everything is cleaned up.
        case deleted
        /// Stopped; its number and record remain until `del`.
        case stopped
    }

    private let server: DeviceServer
    private let signalFD: Int32
    private var nextWatch: UInt64 = 0
    /// Somebody else was seen stopping the device.
    private var hasLetGo = false

    /// How often to look whether IOs wait while somebody else stops the device.
    private static let watchMilliseconds: Int32 = 1000

    /// How often to look for trigger files, when there are rules with one.
    private static let triggerMilliseconds: Int32 = 100

    static let stopSignals: [Int32] = [SIGINT, SIGTERM, SIGHUP]

    /// Blocks the stop signals in this thread and all threads it starts from now on.
    ///
    /// Call before any thread is started.
    static func blockSignals() throws(Errno) -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        return try SystemCall.makeSignalFD(stopSignals)
    }

    init(_ server: DeviceServer, signalFD: Int32) {
        self.server = server
        self.signalFD = signalFD
    }

    /// Runs until the device is stopped or deleted, from whatever side.
    mutating func run() -> Ending {
        while true {
            var events = [
                server.readableLines, signalFD, server.socketFD, server.endedFD, server.outside.fd,
            ].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            let wait =
                server.rules.contains { $0.trigger != nil }
                ? Self.triggerMilliseconds : Self.watchMilliseconds
            let count = unsafe poll(&events, nfds_t(events.count), wait)
            logLines()
            server.ruleCounters.lookForTriggers(server.rules)
            watchForStop()
            if server.isStopWanted, let ending = stopForScript() { return ending }
            guard count > 0 else { continue }
            if events[3].revents != 0 { return endedFromOutside() }
            if events[1].revents != 0, let ending = stopForSignal() { return ending }
            if events[2].revents != 0, let ending = answer() { return ending }
        }
    }

    private func logLines() {
        for line in server.takeLines() {
            if line.hasPrefix("error: ") {
                server.logger.error("\(line.dropFirst(7))")
            } else if line.hasPrefix("warning: ") {
                server.logger.warning("\(line.dropFirst(9))")
            } else {
                server.logger.info("\(line)")
            }
        }
    }

    private func stopForSignal() -> Ending? {
        guard let signal = try? SystemCall.takeSignal(signalFD) else { return nil }
        do throws(DeviceError) {
            server.logger.info("signal \(signal): deleting device \(server.id)")
            try server.takeDown(deletes: true)
            return .deleted
        } catch {
            server.logger.error("\(error)")
            return nil
        }
    }

    // MARK: Stops from elsewhere

    /// Finds out, once a second while IOs wait, whether somebody is stopping the device.
    ///
    /// Another process looks (``OutsideProcess``), because the look may wait in the kernel. Holding
    /// on would wedge whoever stops the device.
    private mutating func watchForStop() {
        // Always, as this is also how the end of that process is noticed.
        let isStopping = server.outside.isStopping()
        guard !hasLetGo else { return }
        if isStopping {
            hasLetGo = true
            server.logger.warning(
                "another program is stopping device \(server.id): releasing held IOs, faults are off"
            )
            return server.drain()
        }
        let now = SystemCall.monotonicNanoseconds
        guard now >= nextWatch, server.waitingIOs > 0 else { return }
        nextWatch = now + UInt64(Self.watchMilliseconds) * 1_000_000
        server.outside.look(at: server.id)
    }

    /// A handler raised, and the script wants to be stopped then; its log stays until `del`.
    private func stopForScript() -> Ending? {
        do throws(DeviceError) {
            try server.takeDown(deletes: false)
            logLines()
            return .stopped
        } catch {
            server.logger.error("\(error)")
            return nil
        }
    }

    /// The driver took all tags back although nobody asked us: another program stopped or deleted
    /// the device.
    private func endedFromOutside() -> Ending {
        logLines()
        server.logger.warning("device \(server.id) was stopped by another program")
        return server.leave() ? .deleted : .stopped
    }

    // MARK: Admin requests

    private func answer() -> Ending? {
        guard let connection = server.acceptConnection(), let words = connection.request(),
            let command = words.first
        else { return nil }
        switch command {
        case "del": return takeDown(connection, deletes: true)
        case "stop": return takeDown(connection, deletes: false)
        case "ctl": control(connection, Array(words.dropFirst()))
        case "reload":
            let answer = server.reload(Array(words.dropFirst()))
            connection.answer(ok: answer.isOK, answer.text)
        case "ledger":
            let answer = server.ledger(Array(words.dropFirst()))
            connection.answer(ok: answer.isOK, answer.text)
        case "status": connection.answer(ok: true, server.status.lines)
        case "reached":
            let answer = server.reached(Array(words.dropFirst()))
            connection.answer(ok: answer.isOK, answer.text)
        default: connection.answer(ok: false, "unknown request \"\(command)\"")
        }
        return nil
    }

    private func takeDown(_ connection: borrowing AdminConnection, deletes: Bool) -> Ending? {
        do throws(DeviceError) {
            try server.takeDown(deletes: deletes)
            logLines()
            connection.answer(ok: true, server.failureSummary ?? "")
            return deletes ? .deleted : .stopped
        } catch {
            server.logger.error("\(error)")
            connection.answer(ok: false, "\(error)")
            return nil
        }
    }

    /// Built-in words first, then the script's own.
    private func control(_ connection: borrowing AdminConnection, _ words: [String]) {
        switch words.first {
        case "release": release(connection, words)
        case "held":
            let answer = server.heldLines()
            connection.answer(ok: answer.isOK, answer.text)
        case "stats": connection.answer(ok: true, server.statistics())
        case "pause", "resume": pause(connection, words)
        default: askQueue(connection, words)
        }
    }

    private func pause(_ connection: borrowing AdminConnection, _ words: [String]) {
        guard words.count == 1 else {
            return connection.answer(ok: false, "\(words[0]) takes no argument")
        }
        for seat in server.seats { seat.control.send(.pause(words[0] == "pause")) }
        connection.answer(ok: true, "")
    }

    private func release(_ connection: borrowing AdminConnection, _ words: [String]) {
        do throws(LiveControl.Refusal) {
            let answer = server.release(try Release(words: words.dropFirst()))
            connection.answer(ok: answer.isOK, answer.text)
        } catch { connection.answer(ok: false, error.text) }
    }

    /// Queue 0 answers: what a word changes for all queues is in shared objects.
    private func askQueue(_ connection: borrowing AdminConnection, _ words: [String]) {
        let promise = Promise<ControlAnswer>()
        server.seats[0].control.send(.control(words, promise))
        // One handler may be under way, then ctl runs; each may take its budget and half as much again.
        let seconds = 10 + 3 * Double(server.plan.config.budgetNanoseconds) / 1e9
        guard let answer = promise.wait(seconds: seconds) else {
            return connection.answer(
                ok: false,
                "the queue did not answer within \(Int(seconds)) s"
            )
        }
        connection.answer(ok: answer.isOK, answer.text)
    }
}
