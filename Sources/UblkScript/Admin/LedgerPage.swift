/// Which records of a device's ledger `ublk-script ledger` asks for.
///
/// Page by page, because the main thread of a server has other work, and more is written meanwhile.
struct LedgerRequest: Sendable {
    let isJSON: Bool
    /// Only what came since that mark was set the last time; empty: all.
    let mark: String
    /// Where each queue is to be read from; empty: from its oldest record.
    let from: [UInt64]
    var filter: LedgerFilter

    /// - Parameter words: `json` or `text`, a mark or an empty word, numbers with commas or an empty word, and the
    ///   words of a ``LedgerFilter``.
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

/// Records of a device's ledger in one answer.
struct LedgerPage: Equatable, Sendable {
    /// The third word of the request for the next page.
    let cursor: String
    /// How many records were overwritten before they were read.
    let lost: UInt64
    let hasMore: Bool
    /// Whose records were overwritten so far, when some of this page were.
    let overwritten: String
    /// A line a record.
    let text: String

    init(cursor: String, lost: UInt64, hasMore: Bool, overwritten: String, text: String) {
        self.cursor = cursor
        self.lost = lost
        self.hasMore = hasMore
        self.overwritten = overwritten
        self.text = text
    }

    /// On the control socket: `CURSOR LOST more|end`, a line for what was overwritten, the records.
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
