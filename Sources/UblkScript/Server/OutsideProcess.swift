import Glibc
import Synchronization
import SystemPackage

/// The process that gives a server's control commands, and waits for them in the kernel.
///
/// It has nothing of the server but a socket, and ends when that closes. Each command has a thread
/// of its own, as any of them may wait; the main thread reads letters and watches.
/// A command that never ends keeps this process from ending, and harms nobody.
@safe
final class OutsideProcess: Sendable {
    // Safety: only atomics and a socket, on which each letter is one call.

    /// The driver's answer is waited for as long as it takes: who asked us sees whether IO moves.
    private static let forever = 1 << 30
    private let socket: Int32
    private let driver: any DriverAccess
    private let silenceSeconds: Double
    /// A question to the driver that waits behind a STOP has no answer yet.
    private let isAsking = Atomic<Bool>(false)

    /// Becomes that process, when the command line asks for it; otherwise returns.
    static func runIfAsked(_ arguments: [String]) {
        guard arguments.count > 1, arguments[1] == OutsideControl.word else { return }
        SystemCall.setThreadName("ublk-script")
        signal(SIGPIPE, SIG_IGN)
        // It must not keep a mount busy.
        unsafe chdir("/")
        OutsideProcess(socket: ChildProcess.answerFD, KernelDriver()).run()
        _exit(0)
    }

    /// - Parameter silenceSeconds: how long a question may wait before somebody is stopping the device: no
    ///   other command keeps the device's mutex for so long, while this process runs.
    init(socket: Int32, _ driver: any DriverAccess, silenceSeconds: Double = 3) {
        self.socket = socket
        self.driver = driver
        self.silenceSeconds = silenceSeconds
    }

    /// Serves the server at the other end of the socket until that closes.
    func run() {
        var silence = TimeLimit(seconds: silenceSeconds)
        var look: (number: UInt64, device: DeviceID)?
        while true {
            var event = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            _ = unsafe poll(&event, 1, look == nil ? -1 : TimeLimit.stepMilliseconds)
            if event.revents != 0 {
                guard let letter = Companion.read(socket) else { return }
                let words = letter.split(separator: " ").map(String.init)
                guard words.count > 2, let number = UInt64(words[0]), let id = UInt32(words[2])
                else { return }
                if words[1] == "look" {
                    if look == nil { silence = TimeLimit(seconds: silenceSeconds) }
                    look = (number, DeviceID(id))
                    askUnlessAsked(DeviceID(id))
                } else {
                    begin(words[1], number, DeviceID(id), Array(words.dropFirst(3)))
                }
            }
            guard let current = look else { continue }
            // A STOP takes the disk out of the system before it waits for IO, but after writeback.
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

    private func send(_ answer: OutsideAnswer) { _ = Companion.write(answer.letter, to: socket) }

    // MARK: The watch

    /// STOP and DEL hold the device's mutex until the last IO is over, and GET_PARAMS waits for it.
    private func askUnlessAsked(_ device: DeviceID) {
        guard !isAsking.exchange(true, ordering: .acquiringAndReleasing) else { return }
        OSThread(name: "ublk-look") {
            // An error is an answer.
            if let control = try? self.driver.control() {
                _ = try? ControlDevice(control).getParams(of: device, seconds: Self.forever)
            }
            self.isAsking.store(false, ordering: .releasing)
        }.detach()
    }

    // MARK: Commands

    private func begin(_ word: String, _ number: UInt64, _ device: DeviceID, _ rest: [String]) {
        OSThread(name: "ublk-\(word)") {
            var answer = OutsideAnswer(number: number)
            do throws(DeviceError) {
                answer.text = try self.give(word, device, rest)
            } catch {
                answer.isOK = false
                answer.errno = error.errno?.rawValue ?? 0
                answer.text = "\(error)"
            }
            self.send(answer)
        }.detach()
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
        case "stop": try control.stop(device, seconds: Self.forever)
        case "delete": try control.delete(device, seconds: Self.forever)
        default: throw .unsupported("\(OutsideControl.word): \(word) is no command")
        }
        return ""
    }

    /// A scan that is refused (somebody holds the disk already) is no reason to fail.
    private func scanPartitions(_ device: DeviceID) -> String {
        do throws(Errno) { try driver.scanPartitions(device) } catch {
            return "no partition scan: \(error.name)"
        }
        return ""
    }
}
