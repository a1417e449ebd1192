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
///
/// Time counts in small pieces, so that a machine that stood still for a while is not taken for a server that did.
struct Patience {
    private let id: DeviceID
    private let server: Int32
    private let seconds: Int
    private var lastIO: [Substring]?
    private var lastLook = SystemCall.monotonicNanoseconds
    private var idleNanoseconds: UInt64 = 0
    private var hasTold = false

    /// A short wait is not worth a word.
    private static let quietNanoseconds: UInt64 = 2_000_000_000
    private static let pieceNanoseconds: UInt64 = 500_000_000

    init(_ id: DeviceID, server: Int32, seconds: Int) {
        self.id = id
        self.server = server
        self.seconds = seconds
        lastIO = Self.ioCounts(id)
    }

    /// To be asked several times a second; false when it is used up.
    mutating func goesOn() -> Bool {
        let now = SystemCall.monotonicNanoseconds
        let io = Self.ioCounts(id)
        idleNanoseconds =
            io == lastIO ? idleNanoseconds + min(now - lastLook, Self.pieceNanoseconds) : 0
        lastIO = io
        lastLook = now
        if idleNanoseconds >= Self.quietNanoseconds, !hasTold, seconds > 2 {
            hasTold = true
            Output.error("waiting for \(who); it is killed when nothing moves for \(seconds) s")
        }
        return idleNanoseconds < UInt64(seconds) * 1_000_000_000
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
