import Glibc
import SystemPackage

/// START_DEV with the partition scan, and STOP_DEV, given by a process of their own.
///
/// Both wait for IO of the device, the one for what the scan reads, the other for what filesystems
/// write back. A server that waits for itself cannot be killed: the thread that waits does not end,
/// so the process keeps `/dev/ublkcN` open, and only when that is closed does the driver fail the IO
/// (`ublk_ch_release`). After kill -9 the device, and everybody who uses it, would hang until the
/// machine is restarted; seen on 6.12 and 7.2. A process that serves nothing gets an error instead.
enum OutsideControl {
    /// The word that makes this program such a process; not for people.
    static let word = "outside-control"

    /// Starts the device, and scans it unless the driver does.
    ///
    /// - Parameter progress: a number that changes while the device serves; the command fails when
    ///   it has not for the time limit of a command.
    /// - Returns: a remark for the log, or nothing.
    static func start(
        _ device: DeviceID,
        scans: Bool,
        progress: () -> UInt64
    ) throws(DeviceError) -> String {
        let words = ["start", "\(device)", "\(getpid())", scans ? "scan" : "-"]
        return try run(words, .startDevice, device, progress)
    }

    static func stop(_ device: DeviceID, progress: () -> UInt64) throws(DeviceError) {
        do throws(DeviceError) {
            _ = try run(["stop", "\(device)"], .stopDevice, device, progress)
        } catch {
            // No memory or no number for another process: better by ourselves than not at all.
            guard case .system = error else { throw error }
            try ControlDevice().stop(device)
        }
    }

    private static func run(
        _ words: [String],
        _ kind: ControlCommand.Kind,
        _ device: DeviceID,
        _ progress: () -> UInt64
    ) throws(DeviceError) -> String {
        let child = try ChildProcess([word] + words, inNewSession: false)
        var last = progress()
        var idleSeconds = 0
        while !child.waitForAnswer(milliseconds: 1000) {
            let now = progress()
            idleSeconds = now == last ? idleSeconds + 1 : 0
            last = now
            // It cannot be killed either, and ends when the driver lets it.
            guard idleSeconds < ControlDevice.changeSeconds else {
                throw .timeout(kind, device, seconds: ControlDevice.changeSeconds)
            }
        }
        let answer = child.readAnswer()
        let status = child.reap()
        if answer.hasPrefix("+") { return String(answer.dropFirst()) }
        guard answer.hasPrefix("-") else {
            throw .unsupported(
                "the process that gives \(kind.rawValue) of device \(device) died (wait status \(status))"
            )
        }
        throw .unsupported(String(answer.dropFirst()))
    }

    // MARK: The other process

    /// The driver's answer is waited for as long as it takes: who asked us sees whether IO moves.
    private static let forever = 1 << 30

    /// Does what the command line asks for, when it is one for us; otherwise returns.
    static func runIfAsked(_ arguments: [String]) {
        guard arguments.count > 3, arguments[1] == word, let number = UInt32(arguments[3]) else {
            return
        }
        SystemCall.setThreadName("ublk-script")
        let device = DeviceID(number)
        do throws(DeviceError) {
            let control = try ControlDevice()
            var remark = ""
            switch arguments[2] {
            case "start" where arguments.count > 5:
                try control.start(device, serverPID: Int32(arguments[4]) ?? 0, seconds: forever)
                if arguments[5] == "scan" { remark = scanPartitions(device) }
            case "stop": try control.stop(device, seconds: forever)
            default: throw .unsupported("\(word): start or stop is expected")
            }
            _ = ChildProcess.answer(ok: true, remark)
        } catch {
            _ = ChildProcess.answer(ok: false, "\(error)")
        }
        _exit(0)
    }

    /// A scan that is refused (somebody holds the disk already) is no reason to fail.
    private static func scanPartitions(_ device: DeviceID) -> String {
        let fd = unsafe open(device.blockPath, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return "no partition scan: \(Errno(rawValue: errno).name)" }
        defer { close(fd) }
        do throws(Errno) { try SystemCall.rescanPartitions(fd) } catch {
            return "no partition scan: \(error.name)"
        }
        return ""
    }
}
