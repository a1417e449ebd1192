import Glibc

/// Answers the requests that arrive over a server's control socket.
///
/// Owned by the ``ServerLoop``; main thread.
struct AdminRequests {
    private let server: DeviceServer
    private let dispatcher: Dispatcher

    init(_ server: DeviceServer) {
        self.server = server
        dispatcher = Dispatcher(server)
    }

    /// Serves the requests that have arrived completely.
    ///
    /// - Parameter beforeEnding: called when the device is gone, before the answer is sent.
    /// - Returns: how the loop ends; nil: it goes on.
    func turn(_ beforeEnding: () -> Void) -> ServerLoop.Ending? {
        for caller in server.callers?.turn() ?? [] {
            guard let ending = serve(caller, beforeEnding) else { continue }
            server.callers?.finish()
            return ending
        }
        return nil
    }

    /// How long those who follow the trace are waited for; they ask ten times a second.
    private static let followersSeconds = 0.2

    /// Whoever follows the trace of a device that is about to be taken away: they get the end of it afterwards, when
    /// they could not ask for it any more.
    private func followers(before request: AdminRequest) -> [AdminCaller] {
        guard case .server(let ending) = request, ending.endsWithDelete != nil,
            server.runningTrace != nil, let callers = server.callers
        else { return [] }
        var found: [AdminCaller] = []
        var limit = TimeLimit(seconds: Self.followersSeconds)
        while !limit.isOver() {
            var events = callers.events
            unsafe poll(&events, nfds_t(events.count), TimeLimit.stepMilliseconds / 5)
            for caller in callers.turn() {
                if caller.words.first == AdminCall.Verb.trace.rawValue {
                    found.append(caller)
                } else {
                    caller.answer(ok: false, "device \(server.id) is being stopped")
                }
            }
        }
        return found
    }

    private func serve(_ caller: AdminCaller, _ beforeEnding: () -> Void) -> ServerLoop.Ending? {
        do throws(AdminRefusal) {
            let call = try AdminCall(words: caller.words)
            let followers = followers(before: call.request)
            let answer = ControlAnswer(
                dispatcher.answer(call.request),
                asJSON: call.asJSON,
                encode: server.request.encode
            )
            var ending: ServerLoop.Ending?
            if answer.isOK, case .server(let request) = call.request,
                let deletes = request.endsWithDelete
            {
                ending = deletes ? .deleted : .stopped
                beforeEnding()
            }
            for follower in followers { _ = serve(follower) {} }
            caller.answer(ok: answer.isOK, answer.text)
            return ending
        } catch {
            caller.answer(ok: false, error.text)
            return nil
        }
    }
}
