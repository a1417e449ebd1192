import Synchronization
import SystemPackage

/// Logs what a queue reports, without flooding the log: each error once in full, then only its count.
///
/// A handler that raises an error may do so for every IO. The log says where and for which IO the first time, and gives
/// the count at 10, 100, 1000 and so on. One per queue; queue thread, off the usual path of an IO.
final class QueueLog: QueueReport {
    /// The most different errors that are counted; more are usually one text with changing numbers.
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
        let who =
            switch cause {
            case .backingErrors: "backing"
            case .copyErrors: "copy"
            default: cause.name
            }
        complain("\(who): \(Errno(rawValue: errno).name)\(note)", io)
    }

    /// Asks the main thread to stop the device; the log line wakes it up.
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
