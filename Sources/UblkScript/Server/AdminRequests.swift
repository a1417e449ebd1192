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
        case "ctl": control(caller, rest)
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

    /// Built-in words first, then the script's own.
    private func control(_ caller: AdminCaller, _ words: [String]) {
        switch words.first {
        case "release": release(caller, words)
        case "held": caller.answer(server.heldLines())
        case "stats": caller.answer(ok: true, server.statistics())
        case "pause", "resume": pause(caller, words)
        default: askQueue(caller, words)
        }
    }

    private func pause(_ caller: AdminCaller, _ words: [String]) {
        guard words.count == 1 else {
            return caller.answer(ok: false, "\(words[0]) takes no argument")
        }
        for seat in server.seats { seat.control.send(.pause(words[0] == "pause")) }
        caller.answer(ok: true, "")
    }

    private func release(_ caller: AdminCaller, _ words: [String]) {
        do throws(LiveControl.Refusal) {
            caller.answer(server.release(try Release(words: words.dropFirst())))
        } catch { caller.answer(ok: false, error.text) }
    }

    /// Queue 0 answers: what a word changes for all queues is in shared objects.
    private func askQueue(_ caller: AdminCaller, _ words: [String]) {
        let promise = Promise<ControlAnswer>()
        server.seats[0].control.send(.control(words, promise))
        // One handler may be under way, then ctl runs; each may take its budget and half as much again.
        let seconds = 10 + 3 * Double(server.plan.config.budgetNanoseconds) / 1e9
        guard let answer = promise.wait(seconds: seconds) else {
            return caller.answer(ok: false, "the queue did not answer within \(Int(seconds)) s")
        }
        caller.answer(answer)
    }
}

extension AdminCaller {
    fileprivate func answer(_ answer: ControlAnswer) {
        self.answer(ok: answer.isOK, answer.text)
    }
}
