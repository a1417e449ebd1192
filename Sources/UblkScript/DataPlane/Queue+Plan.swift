import CLua
import SystemPackage

/// Carrying out what was decided: the plan, its transfers, the end of the IO.
///
/// Memory answers at once; a file answers through the ring, in one or more operations.
extension Queue where Transport: ~Copyable {
    /// The one place where an outcome becomes something that happens.
    ///
    /// Most IOs are one transfer which is over at once, and need no plan while their data is there.
    @inline(__always)
    mutating func finish(_ tag: Tag) {
        let request = requests[tag]
        guard request.isPlain, isDirect else { return finishByPlan(tag) }
        var transfer = Transfer(
            request.op,
            request.io,
            store: 0,
            base: request.io.offset,
            from: 0,
            to: request.io.length
        )
        transport.willCarryOut(transfer, for: tag)
        let step = stores[0].begin(&transfer, transport.data(tag))
        if case .done = step, request.heals == 0 {
            return complete(tag, Int32(clamping: request.io.length))
        }
        request.plan = IOPlan(count: 1, next: 1)
        requests[transfer: tag, 0] = transfer
        goOn(tag, transfer: 0, step)
        endOrWait(tag)
    }

    @inline(never)
    private mutating func finishByPlan(_ tag: Tag) {
        if requests.isTraced { noteDecision(tag) }
        makePlan(tag)
        carryOut(tag)
        endOrWait(tag)
    }

    /// Begins what can begin.
    @inline(never)
    mutating func carryOut(_ tag: Tag) {
        let request = requests[tag]
        while request.plan.canBegin {
            let index = Int(request.plan.next)
            request.plan.next += 1
            let store = Int(requests[transfer: tag, index].store)
            let data = dataForTransfers(tag)
            if requests.isTraced { noteBegin(tag, transfer: index) }
            transport.willCarryOut(requests[transfer: tag, index], for: tag)
            goOn(tag, transfer: index, stores[store].begin(&requests[transfer: tag, index], data))
        }
    }

    /// An operation of a transfer is over.
    mutating func operationEnded(_ tag: Tag, transfer index: Int, _ result: Int32) {
        let state = requests[tag].state
        precondition(state == .transferring || state == .asking)
        requests[tag].plan.underWay -= 1
        if requests[tag].isLoanRefused {
            guard beginsAnew(tag, transfer: index) else { return }
        } else {
            let store = Int(requests[transfer: tag, index].store)
            let data = dataForTransfers(tag)
            goOn(
                tag,
                transfer: index,
                stores[store].finished(&requests[transfer: tag, index], result, data)
            )
        }
        carryOut(tag)
        guard requests[tag].plan.isOver else { return }
        requests.move(tag, from: state, to: .serving)
        if state == .asking { answered(tag) } else { end(tag) }
    }

    private mutating func goOn(_ tag: Tag, transfer index: Int, _ step: StoreStep) {
        switch step {
        case .done: if requests.isTraced { noteEnd(tag, transfer: index, errno: 0) }
        case .submit(let operation):
            requests[tag].plan.underWay += 1
            transport.submit(operation, for: tag, transfer: index)
        case .failed(let errno, let note):
            if requests.isTraced { noteEnd(tag, transfer: index, errno: errno) }
            fail(tag, errno, note)
        }
    }

    private mutating func endOrWait(_ tag: Tag) {
        if requests[tag].plan.isOver { return end(tag) }
        requests.move(tag, from: .serving, to: .transferring)
    }

    @inline(never)
    private mutating func fail(_ tag: Tag, _ errno: Int32, _ note: StaticString) {
        fail(tag, errno, note: "\(note)")
    }

    /// Notes the failure of a transfer: the IO ends with its errno, once the other transfers under way are over.
    private mutating func fail(_ tag: Tag, _ errno: Int32, note: String) {
        guard requests[tag].plan.fail(errno), !requests[tag].plan.isQuestion else { return }
        record(.backingError, tag, errno: errno)
        unasked(.backingErrors, tag, errno: errno, note)
    }

    // MARK: What is not plain

    /// Makes the plan of an IO: one that something was decided about, that goes to several stores, or whose data is
    /// not there.
    @inline(never)
    private mutating func makePlan(_ tag: Tag) {
        let decision = ending(tag)
        var planner = unsafe Planner(
            op: requests[tag].op,
            io: requests[tag].io,
            decision: decision,
            segments: requests.segments(tag),
            transfers: requests.transfers(tag),
            deviceBytes: configuration.sizeBytes
        )
        planner.make(stores)
        if planner.isTorn { control.counters.add(.torn) }
        control.counters.add(outcome: decision.outcome)
        requests[tag].plan = planner.plan
        if let bytes = planner.misfitBytes {
            fail(
                tag,
                Errno.ioError.rawValue,
                note: ": to() is past the end of its backing (\(bytes) bytes)"
            )
        }
        guard !requests[tag].plan.hasFailed else { return }
        borrowData(tag, isCleared: planner.clearsData)
        if requests[tag].op == .write { makeWriteData(tag, isCleared: planner.clearsData) }
        if planner.clearsData { clearData(tag) }
    }

    /// Has what the transfers of the tag's write are to store in its buffer, changed as decided; nothing when nobody
    /// would see it.
    private mutating func makeWriteData(_ tag: Tag, isCleared: Bool) {
        let isSeen = !isCleared && storesData(tag)
        guard !isSeen || requests[tag].isLent || pullData(tag) else {
            _ = requests[tag].plan.fail(Self.copyErrno)
            return
        }
        corrupt(tag, isSeen: isSeen)
    }

    /// The decision that still applies to the tag's IO: without the waits that are over, and with the errno that it
    /// was released with.
    @inline(never)
    func ending(_ tag: Tag) -> us_decision {
        var decision = requests[tag].decision
        decision.delay_ns = 0
        decision.hangs = 0
        let errno = requests[tag].endsWith
        if errno != 0 {
            decision.outcome = UInt8(US_OUTCOME_FAIL.rawValue)
            decision.error = errno
        }
        return decision
    }

    /// The tag's data, for whom the script's needs name.
    private func mappedData(_ tag: Tag) -> UnsafeMutableRawPointer {
        precondition(dataNeeds.mapped & requests[tag].op.bit != 0, "data that nobody needs")
        return unsafe transport.data(tag).bytes
    }

    private func clearData(_ tag: Tag) {
        let length = Int(requests[tag].io.length)
        unsafe mappedData(tag).initializeMemory(
            as: UInt8.self,
            repeating: 0,
            count: length
        )
    }

    /// Changes the request's data, if that was decided: a write's before a store gets it, a read's before the driver
    /// does.
    ///
    /// - Parameter isSeen: there is data that somebody gets; else the decision is only counted.
    @inline(never)
    private func corrupt(_ tag: Tag, isSeen: Bool = true) {
        guard requests[tag].decision.corrupt.mode != 0 else { return }
        control.counters.add(.corrupted)
        guard isSeen else { return }
        unsafe Corruption(requests[tag].decision).apply(
            to: UnsafeMutableRawBufferPointer(
                start: mappedData(tag),
                count: Int(requests[tag].io.length)
            ),
            offset: requests[tag].io.offset,
            patches: requests.patches(tag)
        )
    }

    // MARK: The end

    /// The plan is carried out.
    private mutating func end(_ tag: Tag) {
        let request = requests[tag]
        if request.plan.errno != 0 { return complete(tag, -request.plan.errno) }
        if request.op == .read { corrupt(tag) }
        if request.heals != 0 { heal(tag) }
        complete(tag, Int32(clamping: request.io.length))
    }

    /// Commits the request: a full count or a negative errno, never anything between.
    @inline(__always)
    mutating func complete(_ tag: Tag, _ result: Int32) {
        let result = transport.copiesOnDemand ? pushed(tag, result) : result
        count(tag, result)
        requests[tag].io.live = 0
        requests.move(tag, from: .serving, to: .withDriver, result: result)
        transport.commit(tag, Commit(result: result))
    }

    /// Heals the bytes of the IO that were stored.
    @inline(never)
    private func heal(_ tag: Tag) {
        let request = requests[tag]
        switch request.plan.healed {
        case .nothing: return
        case .all: heal(tag, 0, request.io.length)
        case .run: heal(tag, request.plan.run.lowerBound, UInt64(request.plan.run.count))
        case .transfers:
            for index in 0..<Int(request.plan.count) {
                let transfer = requests[transfer: tag, index]
                heal(tag, transfer.at, transfer.length)
            }
        }
    }

    private func heal(_ tag: Tag, _ at: UInt64, _ length: UInt64) {
        guard length != 0 || requests[tag].io.length == 0 else { return }
        var io = requests[tag].io
        io.offset += at
        io.length = length
        rules.heal(requests[tag].heals, io, now: transport.now)
    }
}
