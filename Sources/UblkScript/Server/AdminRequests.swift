import Logging

/// What a server does for those who ask it something.
///
/// The main thread.
struct AdminRequests {
    private let server: DeviceServer

    init(_ server: DeviceServer) { self.server = server }

    /// Serves whoever has asked by now.
    ///
    /// - Parameter beforeEnding: called when the device is gone and only the answer is left to give.
    /// - Returns: how the loop ends, when it does.
    func turn(_ beforeEnding: () -> Void) -> ServerLoop.Ending? {
        for caller in server.callers?.turn() ?? [] {
            guard let ending = answer(caller, beforeEnding) else { continue }
            server.callers?.finish()
            return ending
        }
        return nil
    }

    private func answer(_ caller: AdminCaller, _ beforeEnding: () -> Void) -> ServerLoop.Ending? {
        let words = caller.words
        let rest = Array(words.dropFirst())
        switch words.first ?? "" {
        case "del", "stop": return takeDown(caller, words, beforeEnding)
        case "ctl", "ctl-json":
            caller.answer(server.control(rest, asJSON: words[0] == "ctl-json"))
        case "reload": caller.answer(server.reload(rest))
        case "ledger": caller.answer(server.ledger(rest))
        case "reached": caller.answer(server.reached(rest))
        case "status": caller.answer(ok: true, server.status.lines)
        case let command: caller.answer(ok: false, "unknown request \"\(command)\"")
        }
        return nil
    }

    /// - Parameter words: `del` or `stop`, and for how many seconds without progress.
    private func takeDown(
        _ caller: AdminCaller,
        _ words: [String],
        _ beforeEnding: () -> Void
    ) -> ServerLoop.Ending? {
        let deletes = words[0] == "del"
        let seconds = words.count > 1 ? Int(words[1]) : nil
        do throws(DeviceError) {
            try server.takeDown(
                deletes: deletes,
                patienceSeconds: seconds ?? server.request.patienceSeconds
            )
            beforeEnding()
            caller.answer(ok: true, server.failureSummary ?? "")
            return deletes ? .deleted : .stopped
        } catch {
            server.logger.error("\(error)")
            caller.answer(ok: false, "\(error)")
            return nil
        }
    }
}

extension AdminCaller {
    fileprivate func answer(_ answer: ControlAnswer) {
        self.answer(ok: answer.isOK, answer.text)
    }
}
