import Glibc
import SystemPackage

/// The server's side of the process that gives control commands which wait in the kernel: START_DEV with the partition
/// scan, END_USER_RECOVERY, STOP_DEV, DEL_DEV, and the query whether another program stops the device.
///
/// Each waits for IO of the device (the scan's reads, the writeback of filesystems), or for another command that does.
/// A server that waits for itself cannot be killed (``LockFreeQueries`` says why), so a separate process gives these
/// commands. It serves nothing, so it can wait as long as it takes (``OutsideProcess``). It is started before the
/// device is made, because under memory pressure a start could fail or wait for the device. Main thread.
final class OutsideControl {
    /// The command-line word that starts this program as such a process; internal.
    static let word = "outside-control"

    /// Default for how long to wait for a stop that makes no progress, seconds.
    static let patienceSeconds = 10

    /// What was received from the process.
    private enum Received {
        case answer(OutsideAnswer)
        case nothing
        case end
    }

    /// The process; nil once it has died (killed by mistake, or by the kernel for want of memory).
    private var process: Companion?
    private var number: UInt64 = 0
    /// What each process is told first; nil: nothing.
    private var guardWords: [String]?
    private let newProcess: () throws(DeviceError) -> Companion
    private let commands: CommandLog

    /// Starts the process.
    ///
    /// - Parameters:
    ///   - newProcess: starts it, now and again whenever it has died.
    ///   - commands: where each command is noted.
    init(
        _ newProcess: @escaping () throws(DeviceError) -> Companion,
        notes commands: CommandLog
    ) throws(DeviceError) {
        self.newProcess = newProcess
        self.commands = commands
        process = try newProcess()
    }

    // MARK: Commands

    /// Gives START_DEV, and then scans the partitions.
    ///
    /// - Parameters:
    ///   - scans: false when the driver scans by itself, or no scan is wanted.
    ///   - progress: the number of IOs served so far; the command fails when this does not change for the time limit
    ///     of a command.
    /// - Returns: a remark for the log; "" when there is none.
    func start(
        _ device: DeviceID,
        scans: Bool,
        progress: () -> UInt64
    ) throws(DeviceError) -> String {
        let words = ["start", "\(device)", "\(getpid())", scans ? "scan" : "-"]
        let seconds = ControlDevice.changeSeconds
        return try run(words, .startDevice, device, data: UInt64(getpid()), seconds, progress)
    }

    /// Gives END_USER_RECOVERY.
    ///
    /// - Parameter progress: as of ``start(_:scans:progress:)``.
    func endRecovery(_ device: DeviceID, progress: () -> UInt64) throws(DeviceError) {
        let words = ["recover", "\(device)", "\(getpid())"]
        let seconds = ControlDevice.changeSeconds
        _ = try run(words, .endRecovery, device, data: UInt64(getpid()), seconds, progress)
    }

    /// Gives STOP_DEV.
    ///
    /// - Parameters:
    ///   - syncs: true for a device with recovery: of such a one the driver fails what is written back during a STOP.
    ///   - seconds: how long to wait while `progress` does not change.
    func stop(
        _ device: DeviceID,
        syncs: Bool = false,
        seconds: Int,
        progress: () -> UInt64
    ) throws(DeviceError) {
        let words = ["stop", "\(device)"] + (syncs ? ["sync"] : [])
        _ = try run(words, .stopDevice, device, seconds, progress)
    }

    /// Gives QUIESCE_DEV.
    func quiesce(_ device: DeviceID, progress: () -> UInt64) throws(DeviceError) {
        let words = ["quiesce", "\(device)"]
        do throws(DeviceError) {
            let seconds = ControlDevice.changeSeconds
            _ = try run(words, .quiesceDevice, device, data: 1000, seconds, progress)
        } catch {
            // The driver lets nothing through even so.
            guard error.errno == .resourceBusy || error.errno == .interrupted else { throw error }
        }
    }

    /// Gives TRY_STOP_DEV.
    ///
    /// - Parameter seconds: as of ``stop(_:syncs:seconds:progress:)``.
    /// - Throws: EBUSY when somebody has the disk open.
    func stopIfUnused(
        _ device: DeviceID,
        seconds: Int,
        progress: () -> UInt64
    ) throws(DeviceError) {
        _ = try run(["try-stop", "\(device)"], .tryStopDevice, device, seconds, progress)
    }

    /// Gives UPDATE_SIZE.
    ///
    /// - Throws: ENODEV when the device has no disk.
    func updateSize(
        of device: DeviceID,
        to sizeBytes: UInt64,
        progress: () -> UInt64
    ) throws(DeviceError) {
        let words = ["resize", "\(device)", "\(sizeBytes)"]
        let seconds = ControlDevice.changeSeconds
        _ = try run(words, .updateSize, device, data: sizeBytes / 512, seconds, progress)
    }

    /// Gives UNREG_BUF.
    func unregister(_ buffer: UInt16, with device: DeviceID) throws(DeviceError) {
        let words = ["unregister", "\(device)", "\(buffer)"]
        let seconds = ControlDevice.changeSeconds
        _ = try run(words, .unregisterBuffer, device, data: UInt64(buffer), seconds, { 0 })
    }

    /// Gives DEL_DEV.
    ///
    /// - Throws: ENODEV when another program has deleted the device.
    func delete(_ device: DeviceID) throws(DeviceError) {
        _ = try run(
            ["delete", "\(device)"],
            .deleteDevice,
            device,
            ControlDevice.changeSeconds,
            { 0 }
        )
    }

    /// - Parameter data: of the command, as a trace tells it.
    private func run(
        _ words: [String],
        _ kind: ControlCommand.Kind,
        _ device: DeviceID,
        data: UInt64 = 0,
        _ seconds: Int,
        _ progress: () -> UInt64
    ) throws(DeviceError) -> String {
        let text = ControlCommand(kind: kind, device: device, data: data).text(
            asked: [],
            answer: []
        )
        let begun = commands.now
        do throws(DeviceError) {
            let remark = try answer(words, kind, device, seconds, progress)
            commands.note(kind, begun: begun, nil, text)
            return remark
        } catch {
            commands.note(kind, begun: begun, error, text)
            throw error
        }
    }

    private func answer(
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

    // MARK: Watching for a stop by another program

    /// The socket of the process, readable when ``isStopping()`` may have news; -1 while there is no process.
    var fd: Int32 { process?.fd ?? -1 }

    /// Asks the process to find out whether another program stops the device; ``isStopping()`` has the outcome.
    func look(at device: DeviceID) {
        // When the process could not be started, the next call tries again.
        _ = try? send(["look", "\(device)"])
    }

    /// True when a ``look(at:)`` since the last call has found that another program stops the device.
    func isStopping() -> Bool {
        var isStopping = false
        while true {
            switch receive(milliseconds: 0) {
            case .answer(let answer): if answer.isStopSeen { isStopping = true }
            case .nothing: return isStopping
            case .end:
                // Another process has to guard, at once; a failure is tried again with the next command.
                if let guardWords { _ = try? send(guardWords) }
                return isStopping
            }
        }
    }

    // MARK: Guarding

    /// Has the process start another server when this one dies (``ServerGuard``), from now on.
    func guardServer(of device: DeviceID, deaths: Int) throws(DeviceError) {
        let words = ["guard", "\(device)", "\(deaths)"]
        guardWords = words
        _ = try send(words)
    }

    /// Has it not do so, as this server ends in order.
    func endGuard(of device: DeviceID) {
        guard guardWords != nil else { return }
        guardWords = nil
        _ = try? send(["guard", "\(device)", "no"])
    }

    // MARK: Messages

    /// Sends a request, to a new process when the old one has died.
    ///
    /// - Returns: the number that the answer will have.
    private func send(_ words: [String]) throws(DeviceError) -> UInt64 {
        number += 1
        let message = ([String(number)] + words).joined(separator: " ")
        if process?.send(message) == true { return number }
        let new = try newProcess()
        let messages = (guardWords.map { [(["0"] + $0).joined(separator: " ")] } ?? []) + [message]
        guard messages.allSatisfy(new.send) else {
            throw .unsupported("the process that gives control commands died at once")
        }
        process = new
        return number
    }

    private func receive(milliseconds: Int32) -> Received {
        switch process?.receive(milliseconds: milliseconds) ?? .end {
        case .text(let text): return OutsideAnswer(text).map { .answer($0) } ?? .nothing
        case .nothing: return .nothing
        case .end:
            process = nil
            return .end
        }
    }
}

/// An answer of the other process, as a message: `NUMBER SIGN ERRNO TEXT`, where the sign is `+` (done), `-` (failed)
/// or `!` (a stop was seen).
struct OutsideAnswer: Equatable {
    let number: UInt64
    var isOK = true
    var isStopSeen = false
    /// The errno of the driver's answer; 0: none.
    var errno: Int32 = 0
    var text = ""

    init(number: UInt64) { self.number = number }

    mutating func fail(_ error: DeviceError) {
        isOK = false
        errno = error.errno?.rawValue ?? 0
        text = "\(error)"
    }
}

extension OutsideAnswer {
    init?(_ message: String) {
        let parts = message.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, let number = UInt64(parts[0]), let errno = Int32(parts[2]) else {
            return nil
        }
        self.number = number
        isOK = parts[1] != "-"
        isStopSeen = parts[1] == "!"
        self.errno = errno
        text = String(parts[3])
    }

    var message: String { "\(number) \(isStopSeen ? "!" : isOK ? "+" : "-") \(errno) \(text)" }

    /// The remark of a command that is done, or throws its error.
    func result(
        _ kind: ControlCommand.Kind,
        _ device: DeviceID
    ) throws(DeviceError) -> String {
        if isOK { return text }
        guard errno != 0 else { throw .unsupported(text) }
        throw .command(kind, device, Errno(rawValue: errno))
    }
}
