import ArgumentParser
import Glibc

/// `--patience`: how long to wait for a server that makes no progress.
struct PatienceOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "How long to wait for a server that makes no progress before it is killed (1s to 1h).",
            valueName: "time"
        )
    )
    var patience = "\(OutsideControl.patienceSeconds)s"

    func validate() throws { _ = try seconds() }

    func seconds() throws -> Int {
        guard let nanoseconds = Quantity.nanoseconds(patience),
            (1_000_000_000...3_600_000_000_000).contains(nanoseconds)
        else {
            throw ValidationError("--patience \(patience): a time from 1s to 1h is expected")
        }
        return Int(nanoseconds / 1_000_000_000)
    }
}

/// The time limit for a server that takes its device down: it starts anew whenever IO of the device has finished.
struct Patience {
    private let id: DeviceID
    private let server: Int32
    private let seconds: Int
    private var lastIO: [Substring]?
    private var limit: TimeLimit
    private var quiet = TimeLimit(seconds: Self.quietSeconds)
    private var hasTold = false

    /// How long to wait without progress before the user is told.
    private static let quietSeconds = 2.0

    init(_ id: DeviceID, server: Int32, seconds: Int) {
        self.id = id
        self.server = server
        self.seconds = seconds
        limit = TimeLimit(seconds: Double(seconds))
        lastIO = Self.ioCounts(id)
    }

    /// Checks for progress; call several times a second; false when the time is over.
    mutating func shouldContinue() -> Bool {
        let io = Self.ioCounts(id)
        if io != lastIO {
            limit = TimeLimit(seconds: Double(seconds))
            quiet = TimeLimit(seconds: Self.quietSeconds)
        }
        lastIO = io
        if quiet.isOver(), !hasTold, seconds > 2 {
            hasTold = true
            Output.error("waiting for \(who); it is killed when nothing moves for \(seconds) s")
        }
        return !limit.isOver()
    }

    /// A description of the server, with its state when it is stopped or waits in the kernel.
    var who: String {
        let remark =
            switch ServerProcess.state(server) {
            case "T", "t": ", which is stopped (SIGSTOP or a debugger)"
            case "D": ", which waits in the kernel"
            default: ""
            }
        return "the server of device \(id) (pid \(server))" + remark
    }

    /// The counts of finished IOs in the disk's statistics; nil when the disk is gone.
    private static func ioCounts(_ id: DeviceID) -> [Substring]? {
        guard let words = DeviceNode.words("/sys/block/ublkb\(id)/stat") else { return nil }
        // Reads, writes, discards, flushes. Not the times between them, which grow while an IO is held.
        return [0, 4, 11, 15].filter { $0 < words.count }.map { words[$0] }
    }
}
