/// A request of `ublk-script ledger` for one page of records.
///
/// The ledger is sent in pages, because the main thread of a server has other work to do, and records are added
/// meanwhile.
struct LedgerRequest: Sendable {
    let isJSON: Bool
    /// Only records since that mark was last set; empty: all.
    let mark: String
    /// The number of the first record wanted of each queue; empty: its oldest record.
    let from: [UInt64]
    var filter: LedgerFilter

    /// Parses the words of the request.
    ///
    /// - Parameter words: `json` or `text`, ``mark``, ``from`` separated by commas, the words of a ``LedgerFilter``.
    init(words: [String]) throws(AdminRefusal) {
        guard words.count >= 3 else {
            throw AdminRefusal("ledger: three words at least are expected")
        }
        isJSON = words[0] == "json"
        mark = words[1]
        from = words[2].split(separator: ",").map { UInt64($0) ?? 0 }
        do throws(ConfigError) { filter = try LedgerFilter(words.dropFirst(3)) } catch {
            throw AdminRefusal("ledger: \(error)")
        }
    }
}

/// One page of the records of a device's ledger.
struct LedgerPage: Equatable, Sendable {
    /// The third word of the request for the next page.
    let cursor: String
    /// Number of records that were overwritten before they were read, since the page before.
    let lost: UInt64
    let hasMore: Bool
    /// Number of all overwritten records by rule, as text; "" when ``lost`` is 0.
    let overwritten: String
    /// The records, one per line.
    let text: String

    init(cursor: String, lost: UInt64, hasMore: Bool, overwritten: String, text: String) {
        self.cursor = cursor
        self.lost = lost
        self.hasMore = hasMore
        self.overwritten = overwritten
        self.text = text
    }

    /// The page as sent over the control socket: `CURSOR LOST more|end`, the line ``overwritten``, the records.
    var lines: String {
        let head = "\(cursor) \(lost) \(hasMore ? "more" : "end")\n\(overwritten)"
        return text.isEmpty ? head : head + "\n" + text
    }

    init?(lines: String) {
        let parts = lines.split(separator: "\n", maxSplits: 2, omittingEmptySubsequences: false)
            .map(String.init)
        let head = parts.first?.split(separator: " ") ?? []
        guard head.count == 3, let lost = UInt64(head[1]) else { return nil }
        self.init(
            cursor: String(head[0]),
            lost: lost,
            hasMore: head[2] == "more",
            overwritten: parts.count > 1 ? parts[1] : "",
            text: parts.count > 2 ? parts[2] : ""
        )
    }
}
