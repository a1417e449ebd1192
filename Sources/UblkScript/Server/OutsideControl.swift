import Glibc
import SystemPackage

/// The server's side of the process that gives the driver those commands which wait in the kernel:
/// START_DEV with the partition scan, STOP_DEV, DEL_DEV, and the question whether somebody else
/// stops the device.
///
/// Each waits for IO of the device or for another command that does: for what the scan reads, for
/// what filesystems write back. A server that waits for itself cannot be killed (``LockFreeQueries``
/// says why), so one process beside it does that, started before the device is made and never in
/// the middle of memory pressure. It serves nothing, so it can wait for as long as it takes
/// (``OutsideProcess``). The main thread.
final class OutsideControl {
    /// The word that makes this program such a process; not for people.
    static let word = "outside-control"

    /// How long a stop without progress is waited for, unless something else is asked for.
    static let patienceSeconds = 10

    /// An answer of the process, or that it has none.
    private enum Message {
        case answer(OutsideAnswer)
        case nothing
        case end
    }

    /// nil once it has died: somebody killed it and meant us, or the kernel had no memory left.
    private var process: Companion?
    private var number: UInt64 = 0
    private let newProcess: () throws(DeviceError) -> Companion

    /// - Parameter newProcess: starts the process, now and whenever it has died.
    init(_ newProcess: @escaping () throws(DeviceError) -> Companion) throws(DeviceError) {
        self.newProcess = newProcess
        process = try newProcess()
    }

    // MARK: Commands

    /// Starts the device, and scans it unless the driver does.
    ///
    /// - Parameter progress: a number that changes while the device serves; the command fails when
    ///   it has not for the time limit of a command.
    /// - Returns: a remark for the log, or nothing.
    func start(
        _ device: DeviceID,
        scans: Bool,
        progress: () -> UInt64
    ) throws(DeviceError) -> String {
        let words = ["start", "\(device)", "\(getpid())", scans ? "scan" : "-"]
        return try run(words, .startDevice, device, ControlDevice.changeSeconds, progress)
    }

    /// - Parameter seconds: how long to wait while `progress` does not change.
    func stop(
        _ device: DeviceID,
        seconds: Int,
        progress: () -> UInt64
    ) throws(DeviceError) {
        _ = try run(["stop", "\(device)"], .stopDevice, device, seconds, progress)
    }

    /// - Throws: ENODEV when another program was quicker.
    func delete(_ device: DeviceID) throws(DeviceError) {
        _ = try run(
            ["delete", "\(device)"],
            .deleteDevice,
            device,
            ControlDevice.changeSeconds,
            { 0 }
        )
    }

    private func run(
        _ words: [String],
        _ kind: ControlCommand.Kind,
        _ device: DeviceID,
        _ seconds: Int,
        _ progress: () -> UInt64
    ) throws(DeviceError) -> String {
        let number = try send(words)
        var last = progress()
        var limit = TimeLimit(seconds: Double(seconds))
        while true {
            switch receive(milliseconds: TimeLimit.stepMilliseconds) {
            case .answer(let answer) where answer.number == number:
                return try answer.result(kind, device)
            case .answer: continue
            case .nothing:
                let now = progress()
                if now != last { limit = TimeLimit(seconds: Double(seconds)) }
                last = now
                guard !limit.isOver() else {
                    throw .timeout(kind, device, seconds: seconds)
                }
            case .end:
                throw .unsupported(
                    "the process that gives \(kind.rawValue) of device \(device) died before it was done: try again"
                )
            }
        }
    }

    // MARK: The watch

    /// Readable when ``isStopping()`` may have changed its mind.
    var fd: Int32 { process?.fd ?? -1 }

    /// Has the process look whether somebody stops the device; ``isStopping()`` tells the outcome.
    func look(at device: DeviceID) {
        // Without a process for it the next look tries again.
        _ = try? send(["look", "\(device)"])
    }

    /// Whether a look has found that somebody stops the device.
    func isStopping() -> Bool {
        var isStopping = false
        while true {
            switch receive(milliseconds: 0) {
            case .answer(let answer): if answer.isStopSeen { isStopping = true }
            case .nothing, .end: return isStopping
            }
        }
    }

    // MARK: Letters

    /// - Returns: the number that the answer will have.
    private func send(_ words: [String]) throws(DeviceError) -> UInt64 {
        number += 1
        let letter = ([String(number)] + words).joined(separator: " ")
        if process?.send(letter) == true { return number }
        let new = try newProcess()
        guard new.send(letter) else {
            throw .unsupported("the process that gives control commands died at once")
        }
        process = new
        return number
    }

    private func receive(milliseconds: Int32) -> Message {
        switch process?.receive(milliseconds: milliseconds) ?? .end {
        case .text(let text): return OutsideAnswer(text).map { .answer($0) } ?? .nothing
        case .nothing: return .nothing
        case .end:
            process = nil
            return .end
        }
    }
}

/// What the other process answers: `NUMBER + TEXT`, `NUMBER - ERRNO TEXT` or `NUMBER ! ` for a stop
/// that was seen.
struct OutsideAnswer: Equatable {
    let number: UInt64
    var isOK = true
    var isStopSeen = false
    /// The driver's, if it answered with one.
    var errno: Int32 = 0
    var text = ""

    init(number: UInt64) { self.number = number }
}

extension OutsideAnswer {
    init?(_ letter: String) {
        let parts = letter.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, let number = UInt64(parts[0]), let errno = Int32(parts[2]) else {
            return nil
        }
        self.number = number
        isOK = parts[1] != "-"
        isStopSeen = parts[1] == "!"
        self.errno = errno
        text = String(parts[3])
    }

    var letter: String { "\(number) \(isStopSeen ? "!" : isOK ? "+" : "-") \(errno) \(text)" }

    /// The remark, or the error as the driver meant it.
    func result(
        _ kind: ControlCommand.Kind,
        _ device: DeviceID
    ) throws(DeviceError) -> String {
        if isOK { return text }
        guard errno != 0 else { throw .unsupported(text) }
        throw .command(kind, device, Errno(rawValue: errno))
    }
}
