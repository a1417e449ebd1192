/// A request of `ublk-script trace` for the next steps.
///
/// The trace is sent in pages, as the ledger is. Asking for one switches the trace on, and asking no more off.
struct TraceRequest: Sendable {
    /// nil: the reader begins.
    let cursor: TraceCursor?

    /// Parses the words of the request: none, or those of ``TraceCursor/words``.
    init(words: [String]) throws(AdminRefusal) {
        cursor = words.isEmpty ? nil : TraceCursor(words: words)
        if !words.isEmpty, cursor == nil {
            throw AdminRefusal("trace: no words are expected, or those of a cursor")
        }
    }
}

/// One page of the steps of a device's requests; JSON over the control socket.
struct TracePage: Codable, Equatable, Sendable {
    /// The words of the request for the next page.
    let cursor: [String]
    let steps: [TraceStep]
    let hasMore: Bool
}

extension TraceCursor {
    var words: [String] {
        func list(_ numbers: [UInt64]) -> String {
            numbers.map { "\($0)" }.joined(separator: ",")
        }
        return ["\(trace)", "\(origin)", list(events), list(records), "\(commands)"]
    }

    init?(words: [String]) {
        func list(_ word: String) -> [UInt64] {
            word.split(separator: ",").map { UInt64($0) ?? .max }
        }
        guard words.count == 5, let trace = UInt64(words[0]), let origin = UInt64(words[1]),
            let commands = Int(words[4]), commands >= 0
        else { return nil }
        self.init(
            trace: trace,
            origin: origin,
            events: list(words[2]),
            records: list(words[3]),
            commands: commands
        )
        guard events.count == records.count, !(events + records).contains(.max) else { return nil }
    }
}
