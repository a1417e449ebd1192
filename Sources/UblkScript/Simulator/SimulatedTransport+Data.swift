import SystemPackage

/// How the data of requests gets to the queue and back, as the driver has it: copies (ublk_user_copy) and pages that
/// are lent.
extension SimulatedTransport {
    mutating func pullData(_ tag: Tag, bytes: Int) -> Int32 {
        checkCopy(tag, of: .write, bytes)
        return machine.pull(tag, bytes, buffers)
    }

    mutating func pushData(_ tag: Tag, bytes: Int) -> Int32 {
        checkCopy(tag, of: .read, bytes)
        let errno = machine.copies.push()
        if errno == 0 { buffers.push(tag, bytes: bytes) }
        slots[tag.index].isPushed = errno == 0
        return errno
    }

    // MARK: Pages

    mutating func lend(_ tag: Tag) {
        guard !mode.lendsUnasked else { return }
        // ublk_register_io_buf: EINVAL for a tag without a request; EBUSY for an index in use.
        precondition(slots[tag.index].owner == .server && !slots[tag.index].isLent)
        slots[tag.index].isLent = machine.copies.register().isEmpty
        if !slots[tag.index].isLent { answers.append(.notLent(tag)) }
    }

    mutating func takeBack(_ tag: Tag) {
        guard !mode.lendsUnasked else { return }
        precondition(slots[tag.index].isLent, "what is taken back was not lent")  // EINVAL
        slots[tag.index].isLent = false
    }

    func isLent(_ tag: Tag) -> Bool { mode.lendsUnasked || slots[tag.index].isLent }

    /// What the driver has answered at once comes with the next wait, before anything else.
    ///
    /// - Returns: false when there is nothing.
    mutating func takeAnswers() -> Bool {
        for case .operation(let tag, _, _) in answers { slots[tag.index].underWay -= 1 }
        swap(&batch, &answers)
        return !batch.isEmpty
    }

    func checkLoan(_ operation: FileOperation, _ tag: Tag) {
        let slot = slots[tag.index]
        precondition(lendsData && !slot.flags.contains(.isNotRegistered), "no pages are lent")
        // io_import_fixed: EFAULT for the other direction, and past the end.
        precondition((operation.kind == .read) == (slot.request.op == .read), "wrong direction")
        let end = UInt64(operation.dataOffset) + operation.lengthBytes
        precondition(operation.kind.hasData && end <= slot.request.lengthBytes)
    }

    private func checkCopy(_ tag: Tag, of op: IOOp, _ bytes: Int) {
        precondition(copiesOnDemand, "a copy without user copy")  // EACCES
        // ublk_user_copy: EINVAL for a tag without a request, EACCES for the other direction.
        let slot = slots[tag.index]
        precondition(slot.owner == .server && slot.request.op == op, "a copy for no \(op)")
        precondition(bytes == Int(slot.request.lengthBytes), "a copy of a part of the data")
    }
}
