/// What `ublk-script wait` and `ctl held` look at.
///
/// The main thread.
extension DeviceServer {
    /// IOs that wait at this moment, for a delay or for a release.
    var waitingIOs: UInt64 {
        seats.reduce(0) { $0 + $1.control.counters[.heldNow] + $1.control.counters[.delayedNow] }
    }

    private static let answerSeconds = 5.0

    /// What the queues say to a message, and which of them do not answer in time: one is in a handler, or its
    /// CPU is another's.
    func askQueues<Answer>(
        _ message: (Promise<Answer>) -> QueueMessage
    ) -> (answers: [Answer], silent: [QueueID]) {
        let promises = seats.map { seat in
            let promise = Promise<Answer>()
            seat.control.send(message(promise))
            return (seat.queue, promise)
        }
        // One limit for all, so that many queues do not take longer than whoever asks waits.
        var limit = TimeLimit(seconds: Self.answerSeconds)
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

    /// Part of an answer is none: what a silent queue would add comes later, or is not known.
    func answer(_ report: ControlReport, _ silent: [QueueID]) -> ControlAnswer {
        guard !silent.isEmpty else { return ControlAnswer(report) }
        let text = report.text
        let queues = silent.map { "queue \($0.rawValue)" }.joined(separator: ", ")
        let problem =
            "\(queues) did not answer within \(Int(Self.answerSeconds)) s, and gets to it later"
        return ControlAnswer(isOK: false, text: text.isEmpty ? problem : "\(text)\n\(problem)")
    }

    /// Whether something has come so far.
    ///
    /// - Parameter words: `rule NAME COUNT`, `mark NAME COUNT`, `held COUNT` or `state NAME`.
    /// - Returns: `yes` or `no`, how often so far, then the same as a sentence.
    func reached(_ words: [String]) -> ControlAnswer {
        func answer(_ isReached: Bool, _ count: UInt64, _ text: String) -> ControlAnswer {
            ControlAnswer(isOK: true, text: "\(isReached ? "yes" : "no") \(count) \(text)")
        }
        let name = words.count > 1 ? words[1] : ""
        let count = words.count > 2 ? UInt64(words[2]) ?? 1 : 1
        switch words.first {
        case "rule":
            do throws(LiveControl.Refusal) {
                let acted = try LiveControl.chosen(name, of: plan.rules)
                    .reduce(0) { $0 + ruleCounters.acted($1) }
                return answer(acted >= count, acted, "rule \(name) acted \(acted) times")
            } catch { return ControlAnswer(isOK: false, text: error.text) }
        case "mark":
            let times = seats.first?.shared.countOfMark(name) ?? 0
            return answer(times >= count, times, "mark \(name) was set \(times) times")
        case "held":
            let held = seats.reduce(0) { $0 + $1.control.counters[.heldNow] }
            return answer(held >= UInt64(name) ?? 1, held, "\(held) IOs are held")
        case "state":
            let state = seats.first?.shared.stateName
            return answer(
                state == name,
                state == name ? 1 : 0,
                "the state is \(state ?? "not set")"
            )
        default: return ControlAnswer(isOK: false, text: "reached: rule, mark, held or state")
        }
    }
}
