/// The words of `ctl`: those that are built in, then the script's own.
///
/// The main thread.
extension DeviceServer {
    /// - Parameter asJSON: the answer is for a program.
    func control(_ words: [String], asJSON: Bool) -> ControlAnswer {
        let answer = self.answer(words, asJSON)
        guard asJSON, answer.isOK, let report = answer.report else { return answer }
        if case .script(let array) = report {
            return ControlAnswer(isOK: true, text: "{\"answer\":\(array)}")
        }
        return ControlAnswer(
            isOK: true,
            text: String(decoding: request.encode(report), as: UTF8.self)
        )
    }

    private func answer(_ words: [String], _ asJSON: Bool) -> ControlAnswer {
        let rest = Array(words.dropFirst())
        func takesNothing(_ answer: () -> ControlAnswer) -> ControlAnswer {
            guard let word = rest.first else { return answer() }
            return ControlAnswer(
                isOK: false,
                text: "\(words[0]) takes no argument, and \"\(word)\" is one"
            )
        }
        switch words.first {
        case "release": return release(rest)
        case "held":
            return takesNothing {
                let (held, silent) = askQueues { .held($0) }
                return self.answer(.held(held.flatMap(\.self)), silent)
            }
        case "stats":
            return takesNothing {
                let json = request.encode(statistics)
                return ControlAnswer(isOK: true, text: String(decoding: json, as: UTF8.self))
            }
        case "pause", "resume":
            return takesNothing {
                for seat in seats { seat.control.send(.pause(words[0] == "pause")) }
                return ControlAnswer(.nothing)
            }
        default: return askQueue(words, asJSON)
        }
    }

    private func release(_ words: [String]) -> ControlAnswer {
        do throws(LiveControl.Refusal) {
            let release = try Release(words: words)
            let (counts, silent) = askQueues { .release(release, $0) }
            return answer(.released(counts.reduce(0, +)), silent)
        } catch { return ControlAnswer(isOK: false, text: error.text) }
    }

    /// Queue 0 answers: what a word changes for all queues is in shared objects.
    private func askQueue(_ words: [String], _ asJSON: Bool) -> ControlAnswer {
        let promise = Promise<ControlAnswer>()
        seats[0].control.send(.control(words, promise, asJSON: asJSON))
        // One handler may be under way, then ctl runs; each may take its budget and half as much again.
        let seconds = 10 + 3 * Double(plan.config.budgetNanoseconds) / 1e9
        return promise.wait(seconds: seconds)
            ?? ControlAnswer(
                isOK: false,
                text: "the queue did not answer within \(Int(seconds)) s"
            )
    }

    /// The counters, summed over the queues, and what each rule did.
    private var statistics: DeviceStatistics {
        DeviceStatistics(
            id: id.rawValue,
            path: id.blockPath,
            script: request.source.shortName,
            seed: seed,
            operations: DeviceStatistics.operations(
                seats.map { ($0.control.counters, $0.control.times) }
            ),
            counters: DeviceStatistics.counters(seats.map(\.control.counters)),
            rules: rules.enumerated().map { ruleCounters.report($0, $1) }
        )
    }
}
