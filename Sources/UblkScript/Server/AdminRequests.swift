/// What a server does for those who ask it something over the control socket.
///
/// The main thread.
struct AdminRequests {
    private let server: DeviceServer
    private let dispatcher: Dispatcher

    init(_ server: DeviceServer) {
        self.server = server
        dispatcher = Dispatcher(server)
    }

    /// Serves whoever has asked by now.
    ///
    /// - Parameter beforeEnding: called when the device is gone and only the answer is left to give.
    /// - Returns: how the loop ends, when it does.
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
            if answer.isOK, case .server(.takeDown(let deletes, _)) = call.request {
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
