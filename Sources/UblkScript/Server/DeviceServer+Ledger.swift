/// The ledgers of a device's queues as one, for `ublk-script ledger`.
///
/// Asked for page by page, because the main thread has other work and more is written meanwhile. The answer's first
/// line is `NEXT[,NEXT...] LOST more|end`: from which number on each queue is to be asked the next time, how
/// many records were overwritten before they were read, and whether there are more already. The second says whose
/// records were overwritten so far, if some of this page were. A line a record follows.
extension DeviceServer {
    /// A script that ran, and where its rules are in ``ledgerRules``.
    struct LedgerScript {
        let name: String
        let rules: [RuleLabel]
        let firstRule: Int32
    }

    /// Records in one answer, of all queues together.
    private static let pageMax = 1000

    /// - Parameter words: `json` or `text`, a mark or an empty word, where each queue is to be read
    ///   from (nothing: from its oldest record), and the words of a ``LedgerFilter``.
    func ledger(_ words: [String]) -> ControlAnswer {
        func refuse(_ text: String) -> ControlAnswer {
            ControlAnswer(isOK: false, text: "ledger: \(text)")
        }
        guard words.count >= 3 else { return refuse("three words at least are expected") }
        var filter: LedgerFilter
        do throws(ConfigError) { filter = try LedgerFilter(words.dropFirst(3)) } catch {
            return refuse("\(error)")
        }
        if let name = filter.unknownRule(among: ledgerRules) {
            let known = ledgerRules.filter { $0.number != 0 }
                .map { $0.name.isEmpty ? "\($0.line)" : $0.name }
            return refuse(
                "no rule is called \"\(name)\"; there "
                    + (known.isEmpty ? "are none" : "is \(known.joined(separator: ", "))")
            )
        }
        if !words[1].isEmpty {
            guard let time = seats.first?.shared.timeOfMark(words[1]) else {
                return refuse("there was no mark \"\(words[1])\" yet")
            }
            filter.from = max(filter.from, time)
        }
        let from = words[2].split(separator: ",").map { UInt64($0) ?? 0 }
        return page(from: from, filter, isJSON: words[0] == "json")
    }

    /// How the ledger's records are told.
    func ledgerText(isJSON: Bool) -> LedgerText {
        LedgerText(script: ledgerScripts[0].name, rules: ledgerRules, seed: seed, isJSON: isJSON)
    }

    private func page(from: [UInt64], _ filter: LedgerFilter, isJSON: Bool) -> ControlAnswer {
        let ledgers = seats.map(\.control.ledger)
        let format = ledgerText(isJSON: isJSON)
        var reader = LedgerReader(from: from)
        let piece = reader.read(ledgers, limit: Self.pageMax)
        let next = reader.next.map { "\($0)" }.joined(separator: ",")
        var lines = [
            "\(next) \(piece.lost) \(piece.hasMore ? "more" : "end")",
            piece.lost > 0 ? format.overwritten(ledgers) : "",
        ]
        if isJSON, piece.lost > 0 { lines.append(format.overwrittenLine(piece.lost, ledgers)) }
        lines += piece.entries.filter { filter.admits($0.record, rules: ledgerRules) }
            .map { format.line($0.record, queue: $0.queue) }
        return ControlAnswer(isOK: true, text: lines.joined(separator: "\n"))
    }
}
