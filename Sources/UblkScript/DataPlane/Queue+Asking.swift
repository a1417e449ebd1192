import CLua

/// Handlers that read from a backing: the request waits for the data, the queue goes on with others.
///
/// The data goes to the tag's scratch room, as its buffer holds what a write brings.
extension Queue where Transport: ~Copyable {
    /// The most reads for one IO; a handler that asks for more is taken for an endless loop.
    private static var questionsMax: UInt16 { 1000 }

    /// Reads what the tag's handler wants, until it has decided or has to wait.
    ///
    /// - Returns: false when it waits.
    @inline(never)
    mutating func ask(_ tag: Tag) -> Bool {
        // The watchdog limits each run by itself; this meter limits all of them together, as they block the queue.
        var meter = us_meter_start(
            configuration.budgetNanoseconds,
            SystemCall.threadCPUNanoseconds
        )
        while requests[tag].questions < Self.questionsMax {
            guard unsafe !us_meter_look(&meter, SystemCall.threadCPUNanoseconds, 0) else {
                giveUp(tag, .budget, "interrupted: reads over its time budget")
                return true
            }
            requests[tag].questions += 1
            planQuestion(tag, unsafe us_script_wanted(script.handle))
            carryOut(tag)
            guard requests[tag].plan.isOver else {
                requests.move(tag, from: .serving, to: .asking)
                return false
            }
            if !goesOnWaiting(tag) { return true }
        }
        giveUp(tag, .runtime, "a handler has read \(Self.questionsMax) times for one IO")
        return true
    }

    /// A read of a store, into the tag's scratch room.
    private mutating func planQuestion(_ tag: Tag, _ want: us_want) {
        requests[transfer: tag, 0] = Transfer(
            .read,
            store: want.backing,
            at: UInt64(transport.scratchOffset),
            length: want.length,
            offset: want.offset
        )
        requests[tag].plan = IOPlan(count: 1, isQuestion: true)
        if case .null = stores[Int(want.backing)] {
            unsafe scratch(tag).initializeMemory(
                as: UInt8.self,
                repeating: 0,
                count: Int(want.length)
            )
        }
    }

    private mutating func giveUp(_ tag: Tag, _ status: ScriptError.Status, _ why: String) {
        unsafe us_script_forget(script.handle, tag.rawValue)
        scriptFailed(tag, ScriptError(status: status, text: "\(script.sourceName): \(why)"))
    }

    private func scratch(_ tag: Tag) -> UnsafeMutableRawPointer {
        unsafe transport.data(tag).bytes + transport.scratchOffset
    }

    /// The store has answered; the tag is served again.
    @inline(never)
    mutating func answered(_ tag: Tag) {
        if requests[tag].isOrphaned { return decideAnew(tag) }
        if isDraining, !configuration.alwaysAsks {
            // Nothing is decided any more.
            unsafe us_script_forget(script.handle, tag.rawValue)
        } else if goesOnWaiting(tag), !ask(tag) {
            return
        }
        advance(tag)
    }

    /// Gives the handler its data, or the errno it got.
    ///
    /// - Returns: true when the handler reads again.
    private mutating func goesOnWaiting(_ tag: Tag) -> Bool {
        var verdict = us_decision()
        let status = unsafe script.resume(
            UnsafePointer(requests.io(tag)),
            now: rules.deviceTime(transport.now),
            errno: requests[tag].plan.errno,
            data: scratch(tag),
            decision: &verdict,
            segments: requests.segments(tag)
        )
        if status == US_WAITS { return true }
        take(verdict, status, tag)
        return false
    }
}
