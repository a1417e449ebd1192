import Synchronization

/// What the queues of a simulation have to say, and what `on_error = "stop"` does.
final class SimulationLog: QueueReport {
    private struct State {
        var errors = SimulationReport.ScriptErrors()
        var isStopped = false
        var isInterrupted = false
    }

    private static let textsMax = 10
    private let state = Mutex(State())
    private let wakeups: [QueueWakeup]
    private let controls: [QueueControl]

    /// - Parameters:
    ///   - wakeups: of the queues.
    ///   - controls: of the same.
    init(wakeups: [QueueWakeup], controls: [QueueControl]) {
        self.wakeups = wakeups
        self.controls = controls
    }

    private func stop() {
        for wakeup in wakeups { wakeup.stop() }
        for control in controls { control.send(.drain) }
    }

    var errors: SimulationReport.ScriptErrors { state.withLock { $0.errors } }
    var isStopped: Bool { state.withLock { $0.isStopped } }

    var isInterrupted: Bool { state.withLock { $0.isInterrupted } }

    /// Ends the run with what there is; any thread.
    func interrupt() {
        let isFirst = state.withLock { state in
            defer { state.isInterrupted = true }
            return !state.isInterrupted
        }
        // Whoever asked goes on asking; one message does.
        guard isFirst else { return }
        stop()
    }

    func scriptChanged() {}

    func scriptFailed(_ error: ScriptError, _ io: IOSummary) {
        state.withLock { state in
            state.errors.count += 1
            guard state.errors.texts.count < Self.textsMax, !state.errors.texts.contains(error.text)
            else { return }
            state.errors.texts.append(error.text)
        }
    }

    func requestFailed(
        _ cause: QueueCounters.Kind,
        _ io: IOSummary,
        errno: Int32,
        _ note: String
    ) {}

    func wantsStop() {
        let isFirst = state.withLock { state in
            defer { state.isStopped = true }
            return !state.isStopped
        }
        guard isFirst else { return }
        stop()
    }
}
