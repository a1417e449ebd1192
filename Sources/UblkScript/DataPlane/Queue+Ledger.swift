import CLua

/// What a queue writes into its ledger besides what its rules do themselves.
extension Queue where Transport: ~Copyable {
    /// The handler's verdict on the tag's IO, before what rules have added.
    @inline(never)
    mutating func recordVerdict(_ tag: Tag, _ verdict: us_decision) {
        record(.decided, tag, rule: rules.handlerNumber, verdict)
    }

    /// What the tag's request is to get now.
    @inline(never)
    mutating func record(_ kind: LedgerRecord.Kind, _ tag: Tag) {
        let rule = kind == .scriptError ? rules.handlerNumber : LedgerRecord.nobody
        unsafe record(kind, tag, rule: rule, requests[tag].pointee.decision)
    }

    private func record(
        _ kind: LedgerRecord.Kind,
        _ tag: Tag,
        rule: Int32,
        _ decision: us_decision
    ) {
        let time = rules.deviceTime(transport.now).nanoseconds
        var record = unsafe LedgerRecord(kind, requests[tag].pointee.io, time: time, rule: rule)
        record.decision = decision
        if rule == rules.handlerNumber {
            unsafe record.random = us_script_random_state(script.handle)
        }
        control.ledger.append(record)
    }
}
