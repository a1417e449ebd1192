import Synchronization
import SystemPackage

/// What a queue has to say, on its way to the log: each complaint once in full, then counted.
///
/// A handler that raises does so for every IO; the log says where and for which IO the first time,
/// and then at 10, 100, 1000 ... how often. Queue thread only; nothing of it is on the usual path.
final class QueueLog: QueueReport {
    /// Different complaints that are remembered; more are mostly one text with changing numbers.
    private static let textsMax = 64

    private let lines: LinePipe
    private let seen = Mutex<[String: UInt64]>([:])

    private let control: QueueControl

    init(lines: LinePipe, control: QueueControl) {
        self.lines = lines
        self.control = control
    }

    func scriptFailed(_ error: ScriptError, _ io: IOSummary) {
        complain("script: \(error)", io)
    }

    func scriptChanged() { seen.withLock { $0 = [:] } }

    func requestFailed(
        _ cause: QueueCounters.Kind,
        _ io: IOSummary,
        errno: Int32,
        _ note: String
    ) {
        let who = cause == .backingErrors ? "backing" : cause.name
        complain("\(who): \(Errno(rawValue: errno).name)\(note)", io)
    }

    /// The main thread looks at it whenever a line arrives.
    func wantsStop() {
        control.wantsStop.store(true, ordering: .relaxed)
        lines.write(.error, "on_error = \"stop\": the device is stopped")
    }

    private func complain(_ text: String, _ io: IOSummary) {
        let count = seen.withLock { seen in
            let key = seen[text] == nil && seen.count >= Self.textsMax ? "(other errors)" : text
            seen[key, default: 0] += 1
            return seen[key, default: 0]
        }
        if count == 1 {
            lines.write(.error, "\(text) [\(io)]")
        } else if Self.isPowerOfTen(count) {
            lines.write(.error, "\(text) (\(count) times so far)")
        }
    }

    private static func isPowerOfTen(_ number: UInt64) -> Bool {
        var rest = number
        while rest > 1, rest % 10 == 0 { rest /= 10 }
        return rest == 1
    }
}
