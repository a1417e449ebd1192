import CLua
import SystemPackage

/// The data of an IO where the server copies it itself (``QueueTransport/copiesOnDemand``).
///
/// A write's is pulled before somebody looks at it, changes it or stores it, and never when nobody does; a read's is
/// pushed, whole, before the commit that says it succeeded: the driver trusts that, and what was not pushed would be
/// whatever was in its pages before. A copy that fails makes an error of its IO.
extension Queue where Transport: ~Copyable {
    /// Has the data of the tag's IO, if it is a write, in the tag's buffer.
    ///
    /// - Returns: false when it cannot be had; that was told, and the IO is to end with ``copyErrno``.
    @inline(__always)
    mutating func pullData(_ tag: Tag) -> Bool { !transport.copiesOnDemand || pulled(tag) }

    /// The same before a transfer to this store, which may be one that takes no data.
    @inline(__always)
    mutating func pullData(_ tag: Tag, for store: Int) -> Bool {
        guard transport.copiesOnDemand else { return true }
        if case .null = stores[store] { return true }
        return pulled(tag)
    }

    /// The errno of an IO whose data could not be copied.
    static var copyErrno: Int32 { Errno.ioError.rawValue }

    @inline(never)
    private mutating func pulled(_ tag: Tag) -> Bool {
        let request = requests[tag]
        guard request.op == .write, !request.isPulled else { return true }
        let errno = transport.pullData(tag, bytes: Int(request.io.length))
        guard errno == 0 else {
            copyFailed(tag, errno, "be copied from")
            return false
        }
        request.isPulled = true
        return true
    }

    /// Hands the data of the tag's IO to the driver if it is a read that succeeded.
    ///
    /// - Returns: what is to be committed.
    @inline(never)
    mutating func pushed(_ tag: Tag, _ result: Int32) -> Int32 {
        requests[tag].isPulled = false
        guard result > 0, requests[tag].op == .read else { return result }
        let errno = transport.pushData(tag, bytes: Int(result))
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
