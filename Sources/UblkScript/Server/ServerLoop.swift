import Glibc
import Logging
import SystemPackage

/// The poll loop of a server's main thread while the queues serve: log lines, signals, admin requests, and the watch
/// for another program that stops the device.
struct ServerLoop {
    /// Why the loop ended.
    enum Ending: Equatable {
        /// The device is deleted, and everything is cleaned up.
        case deleted
        /// The device is stopped; its number and record remain until `del`.
        case stopped
        /// The stop after a signal did not end in time: the process has to end at once (``Aftermath``).
        case givenUp
    }

    private let server: DeviceServer
    private let signalFD: Int32
    private let requests: AdminRequests
    /// When to look for a stop again, nanoseconds.
    private var nextWatch: UInt64 = 0
    /// Another program is stopping the device, so all held IOs have been released.
    private var hasDrained = false
    /// The script asked for a stop, which was begun.
    private var hasStopped = false

    /// Interval of looking for a stop by another program while IOs wait.
    private static let watchMilliseconds: Int32 = 1000

    /// Interval of looking for trigger files, when rules have any, and for the end of a trace.
    private static let triggerMilliseconds: Int32 = 100

    static let stopSignals: [Int32] = [SIGINT, SIGTERM, SIGHUP]

    /// Blocks the stop signals in this thread and all threads that it starts, and ignores those that mean a failed
    /// write.
    ///
    /// Call before any thread is started.
    ///
    /// - Returns: a signalfd for the stop signals.
    static func blockSignals() throws(Errno) -> Int32 {
        // A write that fails returns the error too; SIGXCPU comes from a limit on CPU time.
        for ignored in [SIGPIPE, SIGXFSZ, SIGXCPU] { signal(ignored, SIG_IGN) }
        return try SystemCall.makeSignalFD(stopSignals)
    }

    init(_ server: DeviceServer, signalFD: Int32) {
        self.server = server
        self.signalFD = signalFD
        requests = AdminRequests(server)
    }

    /// Runs until the device is stopped or deleted, by whoever.
    mutating func run() -> Ending {
        while true {
            var events = [server.readableLines, signalFD, server.endedFD, server.outside.fd].map {
                pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
            }
            events += server.callers?.events ?? []
            let count = unsafe poll(&events, nfds_t(events.count), wait)
            logLines()
            server.ruleCounters.lookForTriggers(server.rules)
            watchForStop()
            server.endUnreadTrace()
            if server.isStopWanted, let ending = stopForScript() { return ending }
            if server.wasQuiesced { return leaveQuiesced() }
            if count > 0, events[2].revents != 0 { return endedFromOutside() }
            if count > 0, events[1].revents != 0, let ending = stopForSignal() { return ending }
            if let ending = requests.turn(logLines) { return ending }
        }
    }

    private var wait: Int32 {
        let usual =
            server.rules.contains { $0.trigger != nil }
                || server.runningTrace != nil
            ? Self.triggerMilliseconds : Self.watchMilliseconds
        return min(usual, server.callers?.millisecondsToLook ?? usual)
    }

    private func logLines() {
        for line in server.takeLines() {
            switch line.level {
            case .error: server.logger.error("\(line.text)")
            case .warning: server.logger.warning("\(line.text)")
            case .info: server.logger.info("\(line.text)")
            }
        }
    }

    private func stopForSignal() -> Ending? {
        guard let signal = try? SystemCall.takeSignal(signalFD) else { return nil }
        let seconds = server.request.patienceSeconds
        do throws(DeviceError) {
            server.logger.info("signal \(signal): deleting device \(server.id)")
            try server.takeDown(deletes: true, patienceSeconds: seconds)
            return .deleted
        } catch {
            server.logger.error("\(error)")
            logLines()
            server.logger.error(
                "the server ends: what it holds gets EIO, and the device is deleted"
            )
            return .givenUp
        }
    }

    // MARK: Other stops

    /// Finds out, once a second while IOs wait, whether another program is stopping the device, and then releases
    /// them.
    ///
    /// The other program would wait forever for a held IO. The query may wait in the kernel, so ``OutsideProcess``
    /// makes it.
    private mutating func watchForStop() {
        // Unconditionally, as this also notices the end of that process.
        let isStopping = server.outside.isStopping()
        guard !hasDrained else { return }
        if isStopping {
            hasDrained = true
            server.logger.warning(
                "another program is stopping device \(server.id): releasing held IOs, faults are off"
            )
            return server.drain("another program is stopping the device")
        }
        let now = server.clock.now()
        guard now >= nextWatch, server.waitingIOs > 0 else { return }
        nextWatch = now + UInt64(Self.watchMilliseconds) * 1_000_000
        server.outside.look(at: server.id)
    }

    /// Ends the server's part of a device that another program has quiesced, which waits for the next server then.
    private func leaveQuiesced() -> Ending {
        logLines()
        server.logger.warning("another program has quiesced device \(server.id)")
        server.handOver(patienceSeconds: server.request.patienceSeconds)
        logLines()
        return .stopped
    }

    /// Stops the device after a handler raised an error, with `on_error = "stop"`; the log stays until `del`.
    ///
    /// Only once, as a stop that did not end in time is still under way.
    private mutating func stopForScript() -> Ending? {
        guard !hasStopped else { return nil }
        hasStopped = true
        do throws(DeviceError) {
            try server.takeDown(
                deletes: false,
                patienceSeconds: server.request.patienceSeconds
            )
            logLines()
            return .stopped
        } catch {
            server.logger.error("\(error)")
            return nil
        }
    }

    /// Ends the server after another program stopped or deleted the device: the queues have ended because the driver
    /// aborted all tags.
    private func endedFromOutside() -> Ending {
        logLines()
        server.logger.warning("device \(server.id) was stopped by another program")
        return server.leave() ? .deleted : .stopped
    }
}
