import CLua

/// The answer to an ``AdminRequest``, as values; ``ControlAnswer`` makes text of it.
enum AdminAnswer: Sendable {
    case report(ControlReport)
    case statistics(DeviceStatistics)
    case status(ServerStatus)
    case milestone(Milestone.Report)
    case ledger(LedgerPage)
    case trace(TracePage)
    /// The request is done; a sentence for the user, or "".
    case done(String)
    case refused(AdminRefusal)
    /// Some queues did not answer in time; the report is from the others.
    case partly(ControlReport, silent: [QueueID], seconds: Int)
    /// The queue that answers for all did not answer in time.
    case silence(seconds: Int)

    /// The answer of one queue.
    init(_ answer: QueueAnswer) {
        switch answer {
        case .success(let report): self = .report(report)
        case .failure(let refusal): self = .refused(AdminRefusal(refusal))
        }
    }
}

/// An answer as text, for the control socket and for `disk:ctl()` in a script's test.
struct ControlAnswer: Equatable, Sendable {
    let isOK: Bool
    let text: String

    init(isOK: Bool, text: String) {
        self.isOK = isOK
        self.text = text
    }

    /// - Parameters:
    ///   - asJSON: encode a report as JSON.
    ///   - encode: encodes as JSON, for which this folder has no code (that is in CLI/).
    init(
        _ answer: AdminAnswer,
        asJSON: Bool = false,
        encode: (any Encodable) -> [UInt8] = { _ in [] }
    ) {
        func json(_ value: any Encodable) -> String {
            String(decoding: encode(value), as: UTF8.self)
        }
        isOK =
            switch answer {
            case .refused, .partly, .silence: false
            default: true
            }
        text =
            switch answer {
            case .report(.script(let array)) where asJSON: "{\"answer\":\(array)}"
            case .report(let report): asJSON ? json(report) : report.text
            case .statistics(let statistics): json(statistics)
            case .status(let status): status.lines
            case .milestone(let report): report.line
            case .ledger(let page): page.lines
            case .trace(let page): json(page)
            case .done(let text): text
            case .refused(let refusal): refusal.text
            case .partly(let report, let silent, let seconds):
                Self.text(report, silent, seconds)
            case .silence(let seconds): "the queue did not answer within \(seconds) s"
            }
    }

    private static func text(
        _ report: ControlReport,
        _ silent: [QueueID],
        _ seconds: Int
    ) -> String {
        let queues = silent.map { "queue \($0.rawValue)" }.joined(separator: ", ")
        let problem = "\(queues) did not answer within \(seconds) s, and gets to it later"
        return report.text.isEmpty ? problem : "\(report.text)\n\(problem)"
    }
}

extension AdminRefusal {
    init(_ refusal: QueueRefusal) {
        func known(_ names: [String]) -> String {
            names.isEmpty ? "are none" : "is \(names.joined(separator: ", "))"
        }
        let text =
            switch refusal {
            case .noRule(let name, let rules):
                "rule: no rule is called \"\(name)\"; there \(known(rules))"
            case .noSet(let name, let sets):
                "ranges: the script has no set called \"\(name)\"; there \(known(sets))"
            case .noSetOperation: LiveRequest.rangesUsage
            case .noMemoryToClear: "ranges: out of memory"
            case .noMemoryForRanges: "ranges: out of memory, or too many ranges"
            case .noMemoryForName(let name):
                "\"\(name)\": out of memory, or more than \(US_OBJECTS_MAX) names"
            case .noFunction:
                "the script has no ctl function, and the built-in words are: \(ControlWord.names)"
            case .raised(let text): text
            }
        self.init(text)
    }
}
