import CLua

/// One line of the table of outcomes (`vocabulary.h`): how an IO ends, and everything that depends on it.
struct Outcome {
    /// Value of `us_decision.outcome`.
    let number: UInt8
    /// The word of the ledger.
    let name: String
    /// The key of `rule{}`; nil: a rule says it by `verdict` only.
    let ruleKey: String?
    /// Name of the counter of IOs with this outcome; nil: they are not counted.
    let counter: String?
    private let media: us_media

    /// The whole table.
    static let all: [Outcome] = (0..<UInt8(US_OUTCOME_COUNT.rawValue)).compactMap(Outcome.init)

    /// - Returns: nil for a number that is no outcome.
    private init?(number: UInt8) {
        guard let facts = unsafe us_outcome_at(UInt32(number))?.pointee else { return nil }
        self.number = number
        name = unsafe String(cString: facts.word)
        ruleKey = unsafe Self.text(facts.rule_key)
        counter = unsafe Self.text(facts.counter)
        media = unsafe facts.media
    }

    private static func text(_ word: UnsafePointer<CChar>) -> String? {
        let text = unsafe String(cString: word)
        return text.isEmpty ? nil : text
    }

    /// The IO goes to another place than its own.
    var isElsewhere: Bool { UInt32(number) == US_OUTCOME_REDIRECT.rawValue }

    /// The outcome of a decision; nil: there is no such outcome.
    init?(_ decision: us_decision) {
        guard Int(decision.outcome) < Self.all.count else { return nil }
        self = Self.all[Int(decision.outcome)]
    }

    /// The IO leaves something on the medium, unless `store()` says otherwise.
    var changesMedia: Bool { media != US_MEDIA_KEPT && media != US_MEDIA_UNTOUCHED }
}

extension IOOp {
    /// The name scripts use.
    var name: String {
        guard let name = unsafe us_op_name(UInt32(rawValue)) else {
            preconditionFailure("an operation without a name")
        }
        return unsafe String(cString: name)
    }

    init?(name: String) {
        guard let op = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = op
    }
}
