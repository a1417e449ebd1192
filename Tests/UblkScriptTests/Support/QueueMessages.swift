@testable import UblkScript

/// What tests ask of a queue.
extension QueueMessage {
    static func release(
        _ release: Release,
        _ answer: Promise<QueueAnswer> = Promise()
    ) -> QueueMessage { .ask(.release(release), answer) }

    static func held(_ answer: Promise<QueueAnswer>) -> QueueMessage { .ask(.held, answer) }

    static func pause(_ pauses: Bool) -> QueueMessage { .ask(.pause(pauses), Promise()) }

    /// Words of `ctl` that are for a queue.
    static func control(_ words: [String], _ answer: Promise<QueueAnswer>) -> QueueMessage {
        guard case .queue(let request)? = try? AdminRequest(control: words) else {
            preconditionFailure("\(words) is nothing for a queue")
        }
        return .ask(request, answer)
    }
}

extension Result<ControlReport, QueueRefusal> {
    /// As `ctl` tells it.
    var said: ControlAnswer { ControlAnswer(AdminAnswer(self)) }

    var held: [HeldReport] {
        if case .success(.held(let held)) = self { held } else { [] }
    }
}
