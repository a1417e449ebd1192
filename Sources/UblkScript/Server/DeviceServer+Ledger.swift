/// `ublk-script ledger`: the ledgers of all queues, read as one.
///
/// Main thread.
extension DeviceServer {
    /// A script that runs or ran, and the index of its first rule in ``ledgerRules``.
    struct LedgerScript {
        let name: String
        let rules: [RuleLabel]
        let firstRule: Int32
    }

    /// The most records in one answer, over all queues.
    private static let pageMax = 1000

    func ledger(_ request: LedgerRequest) -> AdminAnswer {
        func refuse(_ text: String) -> AdminAnswer { .refused(AdminRefusal("ledger: \(text)")) }
        var filter = request.filter
        if let name = filter.unknownRule(among: ledgerRules) {
            let known = ledgerRules.filter { $0.number != 0 }
                .map { $0.name.isEmpty ? "\($0.line)" : $0.name }
            return refuse(
                "no rule is called \"\(name)\"; there "
                    + (known.isEmpty ? "are none" : "is \(known.joined(separator: ", "))")
            )
        }
        if !request.mark.isEmpty {
            guard let time = contexts.first?.shared.timeOfMark(request.mark) else {
                return refuse("there was no mark \"\(request.mark)\" yet")
            }
            filter.from = max(filter.from, time)
        }
        return .ledger(page(from: request.from, filter, isJSON: request.isJSON))
    }

    /// The formatter for records of this device.
    func ledgerText(isJSON: Bool) -> LedgerText {
        LedgerText(script: ledgerScripts[0].name, rules: ledgerRules, seed: seed, isJSON: isJSON)
    }

    private func page(from: [UInt64], _ filter: LedgerFilter, isJSON: Bool) -> LedgerPage {
        let ledgers = contexts.map(\.control.ledger)
        let format = ledgerText(isJSON: isJSON)
        var reader = LedgerReader(from: from)
        let piece = reader.read(ledgers, limit: Self.pageMax)
        var lines: [String] = []
        if isJSON, piece.lost > 0 { lines.append(format.overwrittenLine(piece.lost, ledgers)) }
        lines += piece.entries.filter { filter.admits($0.record, rules: ledgerRules) }
            .map { format.line($0.record, queue: $0.queue) }
        return LedgerPage(
            cursor: reader.next.map { "\($0)" }.joined(separator: ","),
            lost: piece.lost,
            hasMore: piece.hasMore,
            overwritten: piece.lost > 0 ? format.overwritten(ledgers) : "",
            text: lines.joined(separator: "\n")
        )
    }
}
