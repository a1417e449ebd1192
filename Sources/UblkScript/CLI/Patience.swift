import ArgumentParser
import Glibc

/// How long a server that makes no progress is waited for before it is ended.
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

/// Waiting for a server that takes its device away: as long as IO moves, and then for its patience.
struct Patience {
    private let id: DeviceID
    private let server: Int32
    private let seconds: Int
    private var lastIO: [Substring]?
    private var limit: TimeLimit
    private var quiet = TimeLimit(seconds: Self.quietSeconds)
    private var hasTold = false

    /// A short wait is not worth a word.
    private static let quietSeconds = 2.0

    init(_ id: DeviceID, server: Int32, seconds: Int) {
        self.id = id
        self.server = server
        self.seconds = seconds
        limit = TimeLimit(seconds: Double(seconds))
        lastIO = Self.ioCounts(id)
    }

    /// To be asked several times a second; false when it is used up.
    mutating func goesOn() -> Bool {
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

    /// The server, and what can be seen of it from outside.
    var who: String {
        let remark =
            switch ServerProcess.state(server) {
            case "T", "t": ", which is stopped (SIGSTOP or a debugger)"
            case "D": ", which waits in the kernel"
            default: ""
            }
        return "the server of device \(id) (pid \(server))" + remark
    }

    /// Counts of finished IO; nil when the disk is gone.
    private static func ioCounts(_ id: DeviceID) -> [Substring]? {
        guard let words = DeviceNode.words("/sys/block/ublkb\(id)/stat") else { return nil }
        // Reads, writes, discards, flushes. The times beside them grow while an IO is held.
        return [0, 4, 11, 15].filter { $0 < words.count }.map { words[$0] }
    }
}
