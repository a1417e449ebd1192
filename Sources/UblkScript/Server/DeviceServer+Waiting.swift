/// `reached`: the answer for `ublk-script wait`, and the number of waiting IOs.
///
/// Main thread.
extension DeviceServer {
    /// Number of IOs that are delayed or held at this moment.
    var waitingIOs: UInt64 {
        contexts.reduce(0) { $0 + $1.control.counters[.heldNow] + $1.control.counters[.delayedNow] }
    }

    func report(on milestone: Milestone) -> AdminAnswer {
        func answer(_ isReached: Bool, _ count: UInt64, _ text: String) -> AdminAnswer {
            .milestone(.init(isReached: isReached, count: count, text: text))
        }
        let shared = contexts.first?.shared
        switch milestone {
        case .rule(let name, let times):
            do throws(QueueRefusal) {
                let acted = try LiveControl.chosen(name, of: plan.rules)
                    .reduce(0) { $0 + ruleCounters.acted($1) }
                return answer(acted >= times, acted, "rule \(name) acted \(acted) times")
            } catch { return .refused(AdminRefusal(error)) }
        case .mark(let name, let wanted):
            let times = shared?.countOfMark(name) ?? 0
            return answer(times >= wanted, times, "mark \(name) was set \(times) times")
        case .held(let number):
            let held = contexts.reduce(0) { $0 + $1.control.counters[.heldNow] }
            return answer(held >= number, held, "\(held) IOs are held")
        case .state(let name):
            let state = shared?.stateName
            let isThere = state == name
            return answer(isThere, isThere ? 1 : 0, "the state is \(state ?? "not set")")
        }
    }
}
