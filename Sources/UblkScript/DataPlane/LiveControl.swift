import CLua

/// The built-in words of `ctl` that change faults while the device runs: `rule`, `ranges`, `mark`,
/// `state`, `seed`.
///
/// Queue thread only, between two IOs: with one queue sets are edited without a lock. What these
/// words change is shared, so one queue answers for all.
struct LiveControl {
    let rules: [RuleLabel]
    let seed: UInt64
    let counters: RuleCounters
    let shared: SharedObjects

    /// A word that is none, or not with these arguments.
    struct Refusal: Error { let text: String }

    static let words = ["rule", "ranges", "mark", "state", "seed"]

    /// - Parameter now: on the device's clock.
    /// - Returns: nil for a first word that is not built in.
    func answer(_ words: [String], now: Instant) throws(Refusal) -> ControlReport? {
        let rest = Array(words.dropFirst())
        switch words.first {
        case "rule": return try rule(rest)
        case "ranges": return try ranges(rest)
        case "mark": return try mark(rest, now)
        case "state": return try state(rest)
        case "seed":
            guard rest.isEmpty else { throw Refusal(text: "seed takes no argument") }
            return .seed(seed)
        default: return nil
        }
    }

    // MARK: Rules

    private func rule(_ words: [String]) throws(Refusal) -> ControlReport {
        let usage =
            "rule: \"rule\", \"rule on NAME\" or \"rule off NAME\" is expected; NAME is a rule's name, its line or all"
        if words.isEmpty { return .rules(rules.indices.map(report)) }
        guard words.count == 2, words[0] == "on" || words[0] == "off" else {
            throw Refusal(text: usage)
        }
        let chosen =
            words[1] == "all" ? Array(rules.indices) : try Self.chosen(words[1], of: rules)
        for index in chosen { counters.turn(index, on: words[0] == "on") }
        return .rules(chosen.map(report))
    }

    /// The places of the rules of that name or line, at least one.
    static func chosen(_ name: String, of rules: [RuleLabel]) throws(Refusal) -> [Int] {
        let chosen = rules.indices.filter { rules[$0].answers(to: name) }
        guard chosen.isEmpty else { return chosen }
        let known = rules.map { $0.name.isEmpty ? "\($0.line)" : $0.name }
        throw Refusal(
            text: "rule: no rule is called \"\(name)\"; there "
                + (known.isEmpty ? "are none" : "is \(known.joined(separator: ", "))")
        )
    }

    private func report(_ index: Int) -> RuleReport { counters.report(index, rules[index]) }

    // MARK: Ranges

    private static let rangesUsage = """
        ranges: "ranges", "ranges NAME list", "ranges NAME count", "ranges NAME clear", \
        "ranges NAME add OFFSET LENGTH ..." or "ranges NAME remove OFFSET LENGTH ..." is expected
        """

    private func ranges(_ words: [String]) throws(Refusal) -> ControlReport {
        guard let name = words.first else {
            return .sets(shared.rangesNames.map(summary))
        }
        guard let set = unsafe shared.ranges(named: name) else {
            let known = shared.rangesNames
            throw Refusal(
                text: "ranges: the script has no set called \"\(name)\"; there "
                    + (known.isEmpty ? "are none" : "is \(known.joined(separator: ", "))")
            )
        }
        switch (words.count, words.count > 1 ? words[1] : "") {
        case (2, "list"): return unsafe list(set)
        case (2, "count"): return .sets([summary(name)])
        case (2, "clear"):
            guard unsafe us_ranges_clear(set) else { throw Refusal(text: "ranges: out of memory") }
        case (let count, "add"), (let count, "remove"):
            guard count >= 4, count % 2 == 0 else { throw Refusal(text: Self.rangesUsage) }
            // All of them are read before the first is done.
            let extents = try stride(from: 2, to: count, by: 2).map { place throws(Refusal) in
                try Self.extent(words[place], words[place + 1])
            }
            for extent in extents { try unsafe edit(set, words[1] == "add", extent) }
        default: throw Refusal(text: Self.rangesUsage)
        }
        return .sets([summary(name)])
    }

    private static func extent(
        _ first: String,
        _ second: String
    ) throws(Refusal) -> ExtentReport {
        guard let offset = Quantity.bytes(first), let length = Quantity.bytes(second),
            length > 0, length <= UInt64(Int64.max) - offset
        else {
            throw Refusal(
                text:
                    "ranges: \(first) \(second): an offset and a length above 0 are expected, "
                    + "as bytes or \"4K\", \"1M\", \"8s\""
            )
        }
        return ExtentReport(offset: offset, length: length)
    }

    private func edit(
        _ set: OpaquePointer,
        _ adds: Bool,
        _ extent: ExtentReport
    ) throws(Refusal) {
        let isDone =
            unsafe adds
            ? us_ranges_add(set, extent.offset, extent.length)
            : us_ranges_remove(set, extent.offset, extent.length)
        guard isDone else { throw Refusal(text: "ranges: out of memory, or too many ranges") }
    }

    private func summary(_ name: String) -> RangesReport {
        guard let set = unsafe shared.ranges(named: name) else {
            return RangesReport(name: name, ranges: 0, bytes: 0)
        }
        return unsafe RangesReport(
            name: name,
            ranges: UInt64(us_ranges_count(set)),
            bytes: us_ranges_bytes(set)
        )
    }

    /// The longest listing: an answer has to fit the socket's limit.
    private static let listMax = 20_000

    private func list(_ set: OpaquePointer) -> ControlReport {
        var extents: [ExtentReport] = []
        let count = unsafe us_ranges_count(set)
        for index in 0..<min(count, Self.listMax) {
            var offset: UInt64 = 0
            var length: UInt64 = 0
            guard unsafe us_ranges_at(set, index, &offset, &length) else { break }
            extents.append(ExtentReport(offset: offset, length: length))
        }
        return .extents(extents, more: max(0, Int(count) - Self.listMax))
    }

    // MARK: Marks and the state

    private func mark(_ words: [String], _ now: Instant) throws(Refusal) -> ControlReport {
        guard words.count == 1 else { throw Refusal(text: "mark: one name is expected") }
        let cell = try unsafe cell(US_CELL_MARK, words[0])
        return unsafe .mark(words[0], times: UInt64(us_cell_mark(cell, now.nanoseconds)))
    }

    private func state(_ words: [String]) throws(Refusal) -> ControlReport {
        guard words.count <= 1 else { throw Refusal(text: "state: at most one name is expected") }
        let current = try unsafe cell(US_CELL_STATE, "")
        if let name = words.first {
            unsafe us_cell_set(current, Int64(try cell(US_CELL_STATE_NAME, name).pointee.number))
        }
        return .state(shared.stateName ?? "")
    }

    private func cell(
        _ kind: us_cell_kind,
        _ name: String
    ) throws(Refusal) -> UnsafeMutablePointer<us_cell> {
        if kind != US_CELL_STATE, let flaw = Quantity.nameFlaw(name) {
            throw Refusal(text: "\"\(name)\" (\(flaw)): \(Quantity.nameRule) is expected")
        }
        guard let cell = unsafe shared.cell(kind, name) else {
            throw Refusal(text: "\"\(name)\": out of memory, or more than 65536 names")
        }
        return unsafe cell
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
