import Glibc
import Synchronization
import SystemPackage

/// The process that gives a server's control commands and waits for them in the kernel.
///
/// It shares nothing with the server but a socket (``Companion``), and ends when that closes. Each command has a thread
/// of its own, as any of them may wait; the main thread reads messages and watches for stops. A command that never ends
/// keeps this process from ending, which harms nobody.
@safe
final class OutsideProcess: Sendable {
    // Safety: only atomics and a socket, on which each message is one system call.

    /// Commands have no time limit here: the server watches whether IO makes progress.
    private static let forever = 1 << 30
    private let socket: Int32
    private let driver: any DriverAccess
    private let silenceSeconds: Double
    /// A GET_PARAMS has not been answered yet: it may be waiting for a STOP.
    private let isAsking = Atomic<Bool>(false)

    /// Runs and exits when the command line is that of such a process; otherwise returns.
    static func runIfAsked(_ arguments: [String]) {
        guard arguments.count > 1, arguments[1] == OutsideControl.word else { return }
        SystemCall.setThreadName("ublk-script")
        signal(SIGPIPE, SIG_IGN)
        // So that this process does not keep a mount busy.
        unsafe chdir("/")
        let outside = OutsideProcess(socket: ChildProcess.answerFD, KernelDriver())
        if let serverGuard = outside.run() { serverGuard.serveAgain() }
        _exit(0)
    }

    /// - Parameter silenceSeconds: how long a GET_PARAMS may wait before this means that the device is being stopped;
    ///   no other command keeps the device's mutex for so long, while this process is scheduled.
    init(socket: Int32, _ driver: any DriverAccess, silenceSeconds: Double = 2) {
        self.socket = socket
        self.driver = driver
        self.silenceSeconds = silenceSeconds
    }

    /// Serves the server at the other end of the socket until that closes.
    ///
    /// - Returns: what to do now that the server has ended; nil: nothing.
    @discardableResult
    func run() -> ServerGuard? {
        var serverGuard: ServerGuard?
        var silence = TimeLimit(seconds: silenceSeconds)
        var look: (number: UInt64, device: DeviceID)?
        while true {
            var event = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            _ = unsafe poll(&event, 1, look == nil ? -1 : TimeLimit.stepMilliseconds)
            if event.revents != 0 {
                guard let message = Companion.read(socket) else { return serverGuard }
                let words = message.split(separator: " ").map(String.init)
                guard words.count > 2, let number = UInt64(words[0]), let id = UInt32(words[2])
                else { return nil }
                if words[1] == "guard" {
                    serverGuard = Self.serverGuard(DeviceID(id), words.last ?? "")
                } else if words[1] == "look" {
                    if look == nil { silence = TimeLimit(seconds: silenceSeconds) }
                    look = (number, DeviceID(id))
                    askUnlessAsked(DeviceID(id))
                } else {
                    begin(words[1], number, DeviceID(id), Array(words.dropFirst(3)))
                }
            }
            guard let current = look else { continue }
            // A STOP removes the disk from /sys/block after writeback, before it waits for IO.
            if !driver.hasDisk(current.device)
                || isAsking.load(ordering: .acquiring) && silence.isOver()
            {
                var answer = OutsideAnswer(number: current.number)
                answer.isStopSeen = true
                send(answer)
                look = nil
            } else if !isAsking.load(ordering: .acquiring) {
                look = nil
            }
        }
    }

    private static func serverGuard(_ device: DeviceID, _ deaths: String) -> ServerGuard? {
        Int(deaths).map {
            ServerGuard(device: device, deaths: $0, since: WaitClock.machine.now())
        }
    }

    /// Sends an answer; one that cannot be sent ends this process, as the server would wait for it.
    private func send(_ answer: OutsideAnswer) {
        guard !Companion.write(answer.message, to: socket) else { return }
        shutdown(socket, Int32(SHUT_RDWR))
    }

    // MARK: Watching for a stop by another program

    /// Gives a GET_PARAMS, unless one is waiting: it needs the device's mutex, which STOP and DEL hold until the last
    /// IO is over.
    private func askUnlessAsked(_ device: DeviceID) {
        guard !isAsking.exchange(true, ordering: .acquiringAndReleasing) else { return }
        do throws(Errno) {
            try OSThread(trying: "ublk-look") {
                // An error is an answer too.
                if let control = try? self.driver.control() {
                    _ = try? ControlDevice(control).getParams(of: device, seconds: Self.forever)
                }
                self.isAsking.store(false, ordering: .releasing)
            }.detach()
        } catch {
            // The server asks again while IOs wait.
            isAsking.store(false, ordering: .releasing)
        }
    }

    // MARK: Commands

    private func begin(_ word: String, _ number: UInt64, _ device: DeviceID, _ rest: [String]) {
        do throws(Errno) {
            try OSThread(trying: "ublk-\(word)") {
                var answer = OutsideAnswer(number: number)
                do throws(DeviceError) {
                    answer.text = try self.give(word, device, rest)
                } catch {
                    answer.fail(error)
                }
                self.send(answer)
            }.detach()
        } catch {
            var answer = OutsideAnswer(number: number)
            answer.fail(DeviceServer.noThread("the command \(word)", error))
            send(answer)
        }
    }

    private func give(
        _ word: String,
        _ device: DeviceID,
        _ rest: [String]
    ) throws(DeviceError) -> String {
        let control = ControlDevice(try driver.control())
        switch word {
        case "start" where rest.count > 1:
            try control.start(device, serverPID: Int32(rest[0]) ?? 0, seconds: Self.forever)
            return rest[1] == "scan" ? scanPartitions(device) : ""
        case "recover" where rest.count > 0:
            try control.endRecovery(
                device,
                serverPID: Int32(rest[0]) ?? 0,
                seconds: Self.forever
            )
        case "stop":
            if rest.first == "sync" { driver.syncDisk(device) }
            try control.stop(device, seconds: Self.forever)
        case "quiesce": try control.quiesce(device, seconds: Self.forever)
        case "try-stop": try control.tryStop(device, seconds: Self.forever)
        case "resize" where rest.count > 0:
            // A disk that goes in the moment between is what ``ControlDevice/updateSize(of:to:seconds:)`` warns of.
            guard driver.hasDisk(device) else {
                throw .command(.updateSize, device, .operationNotSupportedByDevice)
            }
            let bytes = UInt64(rest[0]) ?? 0
            try control.updateSize(of: device, to: bytes, seconds: Self.forever)
        case "unregister" where rest.count > 0:
            try control.unregister(UInt16(rest[0]) ?? 0, with: device, seconds: Self.forever)
        case "delete": try control.delete(device, seconds: Self.forever)
        default: throw .unsupported("\(OutsideControl.word): \(word) is no command")
        }
        return ""
    }

    /// Scans the partitions; a scan that is refused (the disk is open exclusively) is a remark, not a failure.
    private func scanPartitions(_ device: DeviceID) -> String {
        do throws(Errno) { try driver.scanPartitions(device) } catch {
            return "no partition scan: \(error.name)"
        }
        return ""
    }
}
