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

    private func serve(_ caller: AdminCaller, _ beforeEnding: () -> Void) -> ServerLoop.Ending? {
        do throws(AdminRefusal) {
            let call = try AdminCall(words: caller.words)
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
            caller.answer(ok: answer.isOK, answer.text)
            return ending
        } catch {
            caller.answer(ok: false, error.text)
            return nil
        }
    }
}
