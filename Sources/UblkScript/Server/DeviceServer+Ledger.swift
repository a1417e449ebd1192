/// The ledgers of a device's queues as one, for `ublk-script ledger`.
///
/// Asked for in pieces, because an answer has a limit and more is written meanwhile: the answer's first line is
/// `NEXT[,NEXT...] LOST more|end`: from which number on each queue is to be asked the next time, how
/// many records were overwritten before they were read, and whether there are more already. A line a
/// record follows.
extension DeviceServer {
    /// A script that ran, and where its rules are in ``ledgerRules``.
    struct LedgerScript {
        let name: String
        let rules: [RuleLabel]
        let firstRule: Int32
    }

    /// Records of each queue in one answer.
    private static let pieceMax = 1000

    /// - Parameter words: `json` or `text`, a mark or an empty word, and where each queue is to be read
    ///   from (nothing: from its oldest record).
    func ledger(_ words: [String]) -> ControlAnswer {
        guard words.count == 3 else {
            return ControlAnswer(isOK: false, text: "ledger: three words are expected")
        }
        var since: UInt64 = 0
        if !words[1].isEmpty {
            guard let time = seats.first?.shared.timeOfMark(words[1]) else {
                return ControlAnswer(
                    isOK: false,
                    text: "ledger: there was no mark \"\(words[1])\" yet"
                )
            }
            since = time
        }
        let from = words[2].split(separator: ",").map { UInt64($0) ?? 0 }
        let format = LedgerText(
            script: ledgerScripts[0].name,
            rules: ledgerRules,
            seed: seed,
            isJSON: words[0] == "json"
        )
        return piece(from: from, since: since, format)
    }

    private func piece(from: [UInt64], since: UInt64, _ format: LedgerText) -> ControlAnswer {
        var next: [String] = []
        var lost: UInt64 = 0
        var hasMore = false
        var found: [(queue: QueueID, record: LedgerRecord)] = []
        for (index, seat) in seats.enumerated() {
            let isFirst = !from.indices.contains(index)
            let part = seat.control.ledger.read(
                from: isFirst ? 0 : from[index],
                limit: Self.pieceMax
            )
            next.append("\(part.next)")
            lost += part.lost
            hasMore = hasMore || part.next < seat.control.ledger.total
            found += part.records.filter { $0.time >= since }.map { (seat.queue, $0) }
        }
        found.sort { ($0.record.time, $0.record.sequence) < ($1.record.time, $1.record.sequence) }
        let lines = found.map { format.line($0.record, queue: $0.queue) }
        let head = next.joined(separator: ",") + " \(lost) \(hasMore ? "more" : "end")"
        return ControlAnswer(isOK: true, text: ([head] + lines).joined(separator: "\n"))
    }
}
