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
        /// A signal's stop did not end in time: the process has to end at once (``Aftermath``).
        case givenUp
    }

    private let server: DeviceServer
    private let signalFD: Int32
    private let requests: AdminRequests
    private var nextWatch: UInt64 = 0
    /// Somebody else was seen stopping the device.
    private var hasLetGo = false
    /// The script wanted a stop, and got it.
    private var hasStopped = false

    /// How often to look whether IOs wait while somebody else stops the device.
    private static let watchMilliseconds: Int32 = 1000

    /// How often to look for trigger files, when there are rules with one.
    private static let triggerMilliseconds: Int32 = 100

    static let stopSignals: [Int32] = [SIGINT, SIGTERM, SIGHUP]

    /// Blocks the stop signals in this thread and all threads it starts from now on.
    ///
    /// Call before any thread is started.
    static func blockSignals() throws(Errno) -> Int32 {
        // What these tell, the write that failed tells too; the second comes of a limit on CPU time.
        for ignored in [SIGPIPE, SIGXFSZ, SIGXCPU] { signal(ignored, SIG_IGN) }
        return try SystemCall.makeSignalFD(stopSignals)
    }

    init(_ server: DeviceServer, signalFD: Int32) {
        self.server = server
        self.signalFD = signalFD
        requests = AdminRequests(server)
    }

    /// Runs until the device is stopped or deleted, from whatever side.
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
            if server.isStopWanted, let ending = stopForScript() { return ending }
            if count > 0, events[2].revents != 0 { return endedFromOutside() }
            if count > 0, events[1].revents != 0, let ending = stopForSignal() { return ending }
            if let ending = requests.turn(logLines) { return ending }
        }
    }

    private var wait: Int32 {
        let usual =
            server.rules.contains { $0.trigger != nil }
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
            return server.drain("another program is stopping the device")
        }
        let now = server.clock.now()
        guard now >= nextWatch, server.waitingIOs > 0 else { return }
        nextWatch = now + UInt64(Self.watchMilliseconds) * 1_000_000
        server.outside.look(at: server.id)
    }

    /// A handler raised, and the script wants to be stopped then; its log stays until `del`.
    ///
    /// Once: a stop that did not end in time is still under way, and asks nobody any more.
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

    /// The driver took all tags back although nobody asked us: another program stopped or deleted
    /// the device.
    private func endedFromOutside() -> Ending {
        logLines()
        server.logger.warning("device \(server.id) was stopped by another program")
        return server.leave() ? .deleted : .stopped
    }
}
