import CLua

/// What a queue writes into its ledger besides what its rules do themselves.
extension Queue where Transport: ~Copyable {
    /// The handler's verdict on the tag's IO, before what rules have added, if it is a fault.
    ///
    /// Where a target's data is, is none; see ``QueueConfiguration/recordsMapping``.
    @inline(never)
    mutating func recordVerdict(_ tag: Tag, _ verdict: us_decision) {
        var decision = verdict
        let io = unsafe requests.io(tag)
        guard unsafe us_decision_acts_on(&decision, io) else { return }
        if !configuration.recordsMapping, unsafe us_decision_maps(&decision, io) { return }
        record(.decided, tag, rule: rules.handlerNumber, verdict)
    }

    /// What the tag's request is to get now, after what it has waited for.
    @inline(never)
    mutating func record(_ kind: LedgerRecord.Kind, _ tag: Tag) {
        record(kind, tag, rule: LedgerRecord.nobody, ending(tag))
    }

    /// What the tag's request gets in place of its handler's verdict.
    @inline(never)
    mutating func recordScriptError(_ tag: Tag) {
        record(.scriptError, tag, rule: rules.handlerNumber, requests[tag].decision)
    }

    /// The tag's request gets an errno that nothing of the script decided.
    @inline(never)
    func record(_ kind: LedgerRecord.Kind, _ tag: Tag, errno: Int32) {
        var decision = us_decision()
        decision.outcome = UInt8(US_OUTCOME_FAIL.rawValue)
        decision.error = errno
        record(kind, tag, rule: LedgerRecord.nobody, decision)
    }

    /// The tag's request ends with an errno that nobody asked for: counted and told, so that nobody takes it
    /// for a fault of the script's.
    @inline(never)
    func unasked(_ cause: QueueCounters.Kind, _ tag: Tag, errno: Int32, _ note: String) {
        control.counters.add(cause)
        report.requestFailed(
            cause,
            IOSummary(requests[tag].io),
            errno: errno,
            note
        )
    }

    private func record(
        _ kind: LedgerRecord.Kind,
        _ tag: Tag,
        rule: Int32,
        _ decision: us_decision
    ) {
        let time = rules.deviceTime(transport.now).nanoseconds
        var record = LedgerRecord(kind, requests[tag].io, time: time, rule: rule)
        record.decision = decision
        if rule == rules.handlerNumber {
            unsafe record.random = us_script_random_state(script.handle)
        }
        control.ledger.append(record)
    }
}
