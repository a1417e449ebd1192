import CLua
import SystemPackage

/// The data of an IO where the server copies it itself (``QueueTransport/copiesOnDemand``).
///
/// A write's is pulled before a rule compares it, when a handler looks at it (``DataPuller``), before it is changed or
/// stored, and never when nobody does; a read's is
/// pushed, whole, before the commit that says it succeeded: the driver trusts that, and what was not pushed would be
/// whatever was in its pages before. A copy that fails makes an error of its IO. Where the transport lends the pages of
/// a request (``QueueTransport/lendsData``), files work on them and nothing is copied at all; where these are memory
/// that the program shares with the server, so do all stores.
extension Queue where Transport: ~Copyable {
    /// The location of the data of the tag's IO, for its transfers.
    func dataForTransfers(_ tag: Tag) -> IOData {
        requests[tag].isLent ? lentData(tag) : transport.data(tag)
    }

    private func lentData(_ tag: Tag) -> IOData {
        let io = requests[tag].io
        return transport.lentData(tag, IOFlags(rawValue: io.flags), length: io.length)
    }

    /// Has the transfers of the tag's plan work on the pages of the request, if these are lent, if all of the transfers
    /// go to stores that can, and if nobody has looked at the data or is to change it.
    ///
    /// - Parameter isCleared: the data is zeroed first.
    mutating func borrowData(_ tag: Tag, isCleared: Bool) {
        let request = requests[tag]
        guard transport.lendsData, request.op == .read || request.op == .write, !isCleared,
            request.io.has_data == 0, request.decision.corrupt.mode == 0, request.plan.count > 0
        else { return }
        switch lentData(tag) {
        case .registered: guard goesToFiles(tag) else { return }
        case .shared: control.counters.add(.sharedIOs)
        case .absent, .mapped: return
        }
        request.isLent = true
        transport.lend(tag)
    }

    /// All transfers of the tag's plan do.
    private func goesToFiles(_ tag: Tag) -> Bool {
        for index in 0..<Int(requests[tag].plan.count) {
            guard case .file = stores[Int(requests[transfer: tag, index].store)] else {
                return false
            }
        }
        return true
    }

    /// The pages of the tag's request are not lent after all; some operation that needs them has been sent.
    @inline(never)
    mutating func loanRefused(_ tag: Tag) {
        precondition(requests[tag].isLent, "a refusal of what nobody asked for")
        requests[tag].isLent = false
        requests[tag].isLoanRefused = true
    }

    /// An operation that had no pages to work on is over.
    ///
    /// - Returns: true when it was the last one: the tag's plan begins anew, with copies.
    @inline(never)
    mutating func beginsAnew(_ tag: Tag, transfer index: Int) -> Bool {
        if requests.isTraced { noteEnd(tag, transfer: index, errno: Errno.badAddress.rawValue) }
        let request = requests[tag]
        guard request.plan.isOver else { return false }
        request.isLoanRefused = false
        request.plan.next = 0
        for index in 0..<Int(request.plan.count) { requests[transfer: tag, index].done = 0 }
        if !pullData(tag) { _ = request.plan.fail(Self.copyErrno) }
        return true
    }

    /// Has the data of the tag's IO, if it is a write, in the tag's buffer.
    ///
    /// - Returns: false when it cannot be had; that was told, and the IO is to end with ``copyErrno``.
    @inline(__always)
    mutating func pullData(_ tag: Tag) -> Bool { !transport.copiesOnDemand || pulled(tag) }

    /// Some transfer of the tag's plan stores data: there is one, to a store that keeps what it gets.
    func storesData(_ tag: Tag) -> Bool {
        for index in 0..<Int(requests[tag].plan.count) {
            let store = Int(requests[transfer: tag, index].store)
            guard case .null = stores[store] else { return true }
        }
        return false
    }

    /// The errno of an IO whose data could not be copied.
    static var copyErrno: Int32 { Errno.ioError.rawValue }

    @inline(never)
    private mutating func pulled(_ tag: Tag) -> Bool {
        let request = requests[tag]
        guard request.op == .write, request.io.has_data == 0 else { return true }
        let errno = transport.pullData(tag, bytes: Int(request.io.length))
        if requests.isTraced { noteCopy(.copiedIn, tag, errno: errno) }
        guard errno == 0 else {
            copyFailed(tag, errno, "be copied from")
            return false
        }
        request.io.has_data = 1
        return true
    }

    /// The tag's handler has looked at data that could not be copied: its IO fails, whatever the handler made of that.
    @inline(never)
    mutating func pullOfHandlerFailed(_ tag: Tag) {
        let errno = Int32(requests[tag].io.pull_error)
        requests[tag].io.pull_error = 0
        requests[tag].endsWith = Self.copyErrno
        copyFailed(tag, errno, "be copied from")
    }

    /// Hands the data of the tag's IO to the driver if it is a read that succeeded.
    ///
    /// - Returns: what is to be committed.
    @inline(never)
    mutating func pushed(_ tag: Tag, _ result: Int32) -> Int32 {
        let isLent = requests[tag].isLent
        requests[tag].io.has_data = 0
        requests[tag].io.pull_error = 0
        requests[tag].isLent = false
        if isLent { transport.takeBack(tag) }
        guard result > 0, requests[tag].op == .read, !isLent else { return result }
        let errno = transport.pushData(tag, bytes: Int(result))
        if requests.isTraced { noteCopy(.copiedOut, tag, errno: errno) }
        guard errno != 0 else { return result }
        copyFailed(tag, errno, "be copied to")
        return -Self.copyErrno
    }

    private mutating func copyFailed(_ tag: Tag, _ errno: Int32, _ what: String) {
        record(.copyError, tag, errno: Self.copyErrno)
        unasked(
            .copyErrors,
            tag,
            errno: Self.copyErrno,
            ": its data could not \(what) the driver (\(Errno(rawValue: errno).name))"
        )
    }
}
