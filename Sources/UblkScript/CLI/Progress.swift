import Glibc
import Synchronization

/// The progress line of a long run on a terminal, and its interruption by Ctrl-C.
///
/// Made and finished by the main thread; ``turn(_:)`` is called by the run's observer. Until ``finish()`` the first
/// SIGINT or SIGTERM ends the run, which then reports what it has so far, and a second one ends the program.
final class Progress: Sendable {
    private struct State {
        var isOver = false
        var isInterrupted = false
        var shownColumns = 0
        var turns = 0
    }

    private static let signals = [SIGINT, SIGTERM]
    private static let waitMilliseconds: Int32 = 100

    private let wanted: UInt64?
    private let what: String
    private let signalFD: Int32
    private let state = Mutex(State())

    /// - Parameters:
    ///   - wanted: the total; nil when it is not known.
    ///   - what: the name of what is counted.
    init(of wanted: Int?, _ what: String) {
        self.wanted = wanted.map { UInt64($0) }
        self.what = what
        signalFD = (try? SystemCall.makeSignalFD(Self.signals)) ?? -1
    }

    deinit { if signalFD >= 0 { close(signalFD) } }

    /// Waits 100 ms, and shows how many are done.
    ///
    /// - Returns: true when the run has been interrupted.
    func turn(_ done: UInt64) -> Bool {
        var event = pollfd(fd: signalFD, events: Int16(POLLIN), revents: 0)
        let isAsked = unsafe poll(&event, 1, Self.waitMilliseconds) > 0
        return state.withLock { state in
            guard !state.isOver else { return false }
            if isAsked, (try? SystemCall.takeSignal(signalFD)) != nil {
                erase(&state)
                if state.isInterrupted { _exit(130) }
                state.isInterrupted = true
            }
            state.turns += 1
            // A short run needs no progress line.
            if Terminal.errors, !state.isInterrupted, state.turns > 3 { show(done, &state) }
            return state.isInterrupted
        }
    }

    /// Erases the line until the next turn, so that something else can be printed.
    func clear() { state.withLock { erase(&$0) } }

    /// Erases the line for good and unblocks the signals.
    func finish() {
        state.withLock { state in
            guard !state.isOver else { return }
            erase(&state)
            state.isOver = true
            var set = sigset_t()
            unsafe sigemptyset(&set)
            for signal in Self.signals { unsafe sigaddset(&set, signal) }
            unsafe pthread_sigmask(SIG_UNBLOCK, &set, nil)
        }
    }

    private func show(_ done: UInt64, _ state: inout State) {
        var line = "\(done) \(what)"
        if let wanted, wanted > 0 {
            line = "\(min(100, done * 100 / wanted)) %: \(done) of \(wanted) \(what)"
        }
        Output.toErrors(
            "\r" + line + String(repeating: " ", count: max(0, state.shownColumns - line.count))
        )
        state.shownColumns = line.count
    }

    private func erase(_ state: inout State) {
        guard state.shownColumns > 0 else { return }
        Output.toErrors("\r" + String(repeating: " ", count: state.shownColumns) + "\r")
        state.shownColumns = 0
    }
}
