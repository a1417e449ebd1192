import CLua

/// The records that a queue appends to its ledger; rules append their own.
extension Queue where Transport: ~Copyable {
    /// Records the handler's verdict on the tag's IO, without what rules have added, if the verdict is a fault.
    ///
    /// A verdict that only says where a target's data is is no fault; see ``QueueConfiguration/recordsMapping``.
    @inline(never)
    mutating func recordVerdict(_ tag: Tag, _ verdict: us_decision) {
        var decision = verdict
        let io = unsafe requests.io(tag)
        guard unsafe us_decision_acts_on(&decision, io) else { return }
        if !configuration.recordsMapping, unsafe us_decision_maps(&decision, io) { return }
        record(.decided, tag, rule: rules.handlerNumber, verdict)
    }

    /// Records what happens to the tag's request now that its wait is over.
    @inline(never)
    mutating func record(_ kind: LedgerRecord.Kind, _ tag: Tag) {
        record(kind, tag, rule: LedgerRecord.nobody, ending(tag))
    }

    /// Records what the tag's request gets in place of its handler's verdict.
    @inline(never)
    mutating func recordScriptError(_ tag: Tag) {
        record(.scriptError, tag, rule: rules.handlerNumber, requests[tag].decision)
    }

    /// Records an errno that the script has not decided.
    @inline(never)
    func record(_ kind: LedgerRecord.Kind, _ tag: Tag, errno: Int32) {
        var decision = us_decision()
        decision.outcome = UInt8(US_OUTCOME_FAIL.rawValue)
        decision.error = errno
        record(kind, tag, rule: LedgerRecord.nobody, decision)
    }

    /// Counts and reports an errno that the script has not decided, so that it is not taken for an injected fault.
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
