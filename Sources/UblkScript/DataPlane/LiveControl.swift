import CLua

/// What can be asked of a device's rules, sets, marks and state while it runs.
///
/// What it changes is shared, so one queue answers for all.
enum LiveRequest: Equatable, Sendable {
    case rules
    /// Switches the rules of that name or line, or `all`.
    case turnRules(String, isOn: Bool)
    case sets
    /// nil: nothing to do with the set was named.
    case set(String, SetOperation?)
    case mark(String)
    case state
    case setState(String)
    case seed

    enum SetOperation: Equatable, Sendable {
        case list, count, clear
        case add([ExtentReport])
        case remove([ExtentReport])
    }
}

/// Does what a ``LiveRequest`` asks for.
///
/// Queue thread only, between two IOs: with one queue sets are edited in place.
struct LiveControl {
    let rules: [RuleLabel]
    let seed: UInt64
    let counters: RuleCounters
    let shared: SharedObjects

    /// - Parameter now: on the device's clock.
    func answer(_ request: LiveRequest, now: Instant) throws(QueueRefusal) -> ControlReport {
        switch request {
        case .rules: return .rules(rules.indices.map(report))
        case .turnRules(let name, let isOn):
            let chosen = name == "all" ? Array(rules.indices) : try Self.chosen(name, of: rules)
            for index in chosen { counters.turn(index, on: isOn) }
            return .rules(chosen.map(report))
        case .sets: return .sets(shared.rangesNames.map(summary))
        case .set(let name, let operation): return try set(name, operation)
        case .mark(let name):
            let cell = try cell(US_CELL_MARK, name)
            return .mark(name, times: UInt64(cell.mark(at: now.nanoseconds)))
        case .state: return .state(shared.stateName ?? "")
        case .setState(let name):
            let current = try cell(US_CELL_STATE, "")
            current.set(Int64(try cell(US_CELL_STATE_NAME, name).number))
            return .state(shared.stateName ?? "")
        case .seed: return .seed(seed)
        }
    }

    // MARK: Rules

    /// The indices of the rules with that name or line, at least one.
    static func chosen(_ name: String, of rules: [RuleLabel]) throws(QueueRefusal) -> [Int] {
        let chosen = rules.indices.filter { rules[$0].answers(to: name) }
        guard chosen.isEmpty else { return chosen }
        throw .noRule(name, known: rules.map { $0.name.isEmpty ? "\($0.line)" : $0.name })
    }

    private func report(_ index: Int) -> RuleReport { counters.report(index, rules[index]) }

    // MARK: Ranges

    private func set(
        _ name: String,
        _ operation: LiveRequest.SetOperation?
    ) throws(QueueRefusal) -> ControlReport {
        guard let set = shared.ranges(named: name) else {
            throw .noSet(name, known: shared.rangesNames)
        }
        switch operation {
        case nil: throw .noSetOperation
        case .list: return list(set)
        case .count: break
        case .clear: guard set.clear() else { throw .noMemoryToClear }
        case .add(let extents):
            for extent in extents {
                guard set.add(extent.offset, extent.length) else {
                    throw .noMemoryForRanges
                }
            }
        case .remove(let extents):
            for extent in extents {
                guard set.remove(extent.offset, extent.length) else {
                    throw .noMemoryForRanges
                }
            }
        }
        return .sets([summary(name)])
    }

    private func summary(_ name: String) -> RangesReport {
        guard let set = shared.ranges(named: name) else {
            return RangesReport(name: name, ranges: 0, bytes: 0)
        }
        return RangesReport(name: name, ranges: UInt64(set.count), bytes: set.bytes)
    }

    /// The longest listing: an answer has to fit the socket's limit.
    private static let listMax = 20_000

    private func list(_ set: RangeSet) -> ControlReport {
        var extents: [ExtentReport] = []
        let count = set.count
        for index in 0..<min(count, Self.listMax) {
            guard let span = set.interval(index) else { break }
            extents.append(ExtentReport(offset: span.start, length: span.end - span.start))
        }
        return .extents(extents, more: max(0, count - Self.listMax))
    }

    // MARK: Marks and the state

    private func cell(_ kind: us_cell_kind, _ name: String) throws(QueueRefusal) -> Cell {
        guard let cell = shared.cell(kind, name) else { throw .noMemoryForName(name) }
        return cell
    }
}

extension RuleCounters {
    /// What a rule did, for people and programs.
    func report(_ index: Int, _ label: RuleLabel) -> RuleReport {
        RuleReport(
            line: label.line,
            name: label.name.isEmpty ? nil : label.name,
            isOn: isOn(index),
            acted: acted(index)
        )
    }
}
