import SystemPackage

/// A file as a queue works on it: the operations that a transfer needs, and their results.
///
/// Makes no system call: the caller submits the operations. Queue thread.
extension FileStore {
    /// A file, for one queue; a value that holds no reference.
    struct View {
        /// Every write must be durable before it completes, because the device has no volatile cache.
        let writesThrough: Bool
        /// Index among the device's files.
        let file: Int32
        var sizeBytes: UInt64
        /// Size of an IO's buffer.
        let dataBytes: UInt64
        /// The best way to zero that the file has not refused.
        var zeroing = Zeroing.zeroRange
    }

    /// The ways to zero a file's bytes, best first.
    enum Zeroing: UInt8, Comparable {
        case zeroRange
        case punchHole
        case writing
        static func < (a: Zeroing, b: Zeroing) -> Bool { a.rawValue < b.rawValue }
    }
}

extension FileStore.View {
    /// Begins a transfer: see ``Store/begin(_:_:)``.
    mutating func begin(_ transfer: inout Transfer, _ data: IOData) -> StoreStep {
        guard transfer.isWithin(sizeBytes) else { return .pastEnd }
        // fallocate() has no flag for durability, so zeroes with FUA are written.
        transfer.zeroing = isDurable(transfer) ? .writing : firstZeroing(transfer)
        return .submit(operation(transfer, data))
    }

    /// Takes the result of an operation: continues with the rest, falls back, or ends the transfer.
    mutating func finished(
        _ transfer: inout Transfer,
        _ result: Int32,
        _ data: IOData
    ) -> StoreStep {
        if result < 0 {
            let errno = Errno(rawValue: -result)
            if errno == .interrupted || errno == .resourceTemporarilyUnavailable {
                return .submit(operation(transfer, data))
            }
            if fallsBack(errno, &transfer) { return .submit(operation(transfer, data)) }
            // A discard is a hint, so one that the file cannot do has succeeded.
            if transfer.op == .discard, Self.isRefusal(errno) { return .done }
            return .failed(errno: errno.rawValue, note: "")
        }
        guard transfersBytes(transfer) else { return .done }
        if result == 0 {
            return .failed(
                errno: Errno.ioError.rawValue,
                note: ": the file ends before the device does"
            )
        }
        transfer.done += UInt64(result)
        return transfer.done < transfer.length ? .submit(operation(transfer, data)) : .done
    }

    /// The next operation of the transfer, for the bytes that are not done.
    private func operation(_ transfer: Transfer, _ data: IOData) -> FileOperation {
        let write: FileOperation.Kind = isDurable(transfer) ? .writeDurably : .write
        switch transfer.op {
        case .read: return operation(.read, transfer, data)
        case .write: return operation(write, transfer, data)
        case .flush: return FileOperation(kind: .sync, file: file, offsetBytes: 0, lengthBytes: 0)
        case .discard: return operation(.punchHole, transfer, .absent)
        case .writeZeroes:
            switch transfer.zeroing {
            case .zeroRange: return operation(.zeroRange, transfer, .absent)
            case .punchHole: return operation(.punchHole, transfer, .absent)
            case .writing: return zeroesByHand(write, transfer, data)
            }
        }
    }

    private func operation(
        _ kind: FileOperation.Kind,
        _ transfer: Transfer,
        _ data: IOData
    ) -> FileOperation {
        var operation = FileOperation(
            kind: kind,
            file: file,
            offsetBytes: transfer.offset + transfer.done,
            lengthBytes: transfer.length - transfer.done
        )
        switch data {
        case .absent: break
        case .registered, .shared:
            operation.isOnRequest = true
            fallthrough
        case .mapped: operation.dataOffset = Int(transfer.at + transfer.done)
        }
        return operation
    }

    /// Zeroes by plain writes, as a last resort: writes the IO's own buffer, zeroed, as often as needed.
    private func zeroesByHand(
        _ kind: FileOperation.Kind,
        _ transfer: Transfer,
        _ data: IOData
    ) -> FileOperation {
        let length = min(transfer.length - transfer.done, dataBytes)
        unsafe data.bytes.initializeMemory(as: UInt8.self, repeating: 0, count: Int(length))
        return FileOperation(
            kind: kind,
            file: file,
            offsetBytes: transfer.offset + transfer.done,
            lengthBytes: length
        )
    }

    private func isDurable(_ transfer: Transfer) -> Bool { writesThrough || transfer.isDurable }

    /// True when results of the transfer's operations are byte counts.
    private func transfersBytes(_ transfer: Transfer) -> Bool {
        switch transfer.op {
        case .read, .write: true
        case .writeZeroes: transfer.zeroing == .writing
        case .discard, .flush: false
        }
    }

    /// The first way to zero to try: none that this file has refused, and no hole when blocks are to be kept (NOUNMAP).
    private func firstZeroing(_ transfer: Transfer) -> FileStore.Zeroing {
        zeroing == .punchHole && transfer.keepsBlocks ? .writing : zeroing
    }

    /// Falls back to the next way to zero: zero range, punch hole, plain writes.
    private mutating func fallsBack(_ errno: Errno, _ transfer: inout Transfer) -> Bool {
        guard transfer.op == .writeZeroes, Self.isRefusal(errno) else { return false }
        switch transfer.zeroing {
        case .zeroRange: zeroing = max(zeroing, .punchHole)
        case .punchHole: zeroing = .writing
        case .writing: return false
        }
        transfer.zeroing = firstZeroing(transfer)
        return true
    }

    private static func isRefusal(_ errno: Errno) -> Bool {
        errno == .notSupported || errno == .invalidArgument
    }
}
