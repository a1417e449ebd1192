/// What `ublk-script wait` and `ctl held` look at. The main thread.
extension DeviceServer {
    /// A line for each held IO of every queue.
    func heldLines() -> [String] {
        let promises = seats.map { seat in
            let promise = Promise<[String]>()
            seat.control.send(.held(promise))
            return promise
        }
        return promises.flatMap { $0.wait(seconds: 5) ?? [] }
    }

    /// Whether something has come so far.
    ///
    /// - Parameter words: `rule NAME COUNT`, `mark NAME COUNT`, `held COUNT` or `state NAME`.
    /// - Returns: `yes` or `no`, then how far it is.
    func reached(_ words: [String]) -> ControlAnswer {
        func answer(_ isReached: Bool, _ text: String) -> ControlAnswer {
            ControlAnswer(isOK: true, text: (isReached ? "yes " : "no ") + text)
        }
        let name = words.count > 1 ? words[1] : ""
        let count = words.count > 2 ? UInt64(words[2]) ?? 1 : 1
        switch words.first {
        case "rule":
            let chosen = plan.rules.indices.filter { plan.rules[$0].answers(to: name) }
            guard !chosen.isEmpty else {
                let known = plan.rules.map { $0.name.isEmpty ? "\($0.line)" : $0.name }
                return ControlAnswer(
                    isOK: false,
                    text: "no rule is called \"\(name)\"; there "
                        + (known.isEmpty ? "are none" : "is \(known.joined(separator: ", "))")
                )
            }
            let acted = chosen.reduce(0) { $0 + ruleCounters.acted($1) }
            return answer(acted >= count, "rule \(name) acted \(acted) times")
        case "mark":
            let times = seats.first?.shared.countOfMark(name) ?? 0
            return answer(times >= count, "mark \(name) was set \(times) times")
        case "held":
            let held = seats.reduce(0) { $0 + $1.control.counters[.heldNow] }
            return answer(held >= UInt64(name) ?? 1, "\(held) IOs are held")
        case "state":
            let state = seats.first?.shared.stateName
            return answer(state == name, "the state is \(state ?? "not set")")
        default: return ControlAnswer(isOK: false, text: "reached: rule, mark, held or state")
        }
    }
}
