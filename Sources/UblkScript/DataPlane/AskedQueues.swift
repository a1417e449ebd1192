/// Queues that were asked something: their answers, when they come.
///
/// Not the thread of a queue.
struct AskedQueues<Answer: Sendable>: Sendable {
    private let promises: [(queue: QueueID, answer: Promise<Answer>)]

    fileprivate init(_ promises: [(queue: QueueID, answer: Promise<Answer>)]) {
        self.promises = promises
    }

    /// Waits for the answers; once.
    ///
    /// A queue that gives none in time is in a handler, or its CPU is another's.
    ///
    /// - Parameter seconds: for all of them, so that many queues do not take longer than whoever asks waits.
    func wait(seconds: Double) -> (answers: [Answer], silent: [QueueID]) {
        var limit = TimeLimit(seconds: seconds)
        var answers: [Answer] = []
        var silent: [QueueID] = []
        for (queue, promise) in promises {
            if let answer = promise.wait(until: &limit) {
                answers.append(answer)
            } else {
                silent.append(queue)
            }
        }
        return (answers, silent)
    }
}

extension Sequence<QueueControl> {
    /// Asks each of these queues: the one way from a device to its queues and back.
    func ask<Answer>(_ message: (Promise<Answer>) -> QueueMessage) -> AskedQueues<Answer> {
        AskedQueues(
            map { queue in
                let promise = Promise<Answer>()
                queue.send(message(promise))
                return (queue.queue, promise)
            }
        )
    }
}
