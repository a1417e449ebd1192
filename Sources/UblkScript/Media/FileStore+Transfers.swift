import SystemPackage

/// A file as a queue works on it: which operations a transfer takes, and what their results mean.
///
/// Makes no system call: the caller submits the operations. Queue thread.
extension FileStore {
    /// The value that queues use; it has no owner inside.
    struct View {
        /// Every write is durable before it completes: the device says it has no cache.
        let writesThrough: Bool
        /// Index among the device's files.
        let file: Int32
        let sizeBytes: UInt64
        /// Bytes of an IO's data that can be written at once.
        let dataBytes: UInt64
        /// The best way to zero that the file has not refused yet.
        var zeroing = Zeroing.zeroRange
    }

    /// Ways to zero a file's bytes, best first.
    enum Zeroing: UInt8, Comparable {
        case zeroRange
        case punchHole
        case writing
        static func < (a: Zeroing, b: Zeroing) -> Bool { a.rawValue < b.rawValue }
    }
}

extension FileStore.View {
    mutating func begin(_ transfer: inout Transfer, _ data: IOData) -> StoreStep {
        // fallocate has no flag for what has to be on the medium.
        transfer.zeroing = isDurable(transfer) ? .writing : firstZeroing(transfer)
        return .submit(operation(transfer, data))
    }

    /// An operation is over: go on with the rest, fall back, or be done.
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
            // A discard promises nothing about the data.
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

    /// The next operation of the transfer, after the bytes that are done.
    private func operation(_ transfer: Transfer, _ data: IOData) -> FileOperation {
        let write: FileOperation.Kind = isDurable(transfer) ? .writeDurably : .write
        switch transfer.op {
        case .read: return operation(.read, transfer)
        case .write: return operation(write, transfer)
        case .flush: return FileOperation(kind: .sync, file: file, offsetBytes: 0, lengthBytes: 0)
        case .discard: return operation(.punchHole, transfer, hasData: false)
        case .writeZeroes:
            switch transfer.zeroing {
            case .zeroRange: return operation(.zeroRange, transfer, hasData: false)
            case .punchHole: return operation(.punchHole, transfer, hasData: false)
            case .writing: return zeroesByHand(write, transfer, data)
            }
        }
    }

    private func operation(
        _ kind: FileOperation.Kind,
        _ transfer: Transfer,
        hasData: Bool = true
    ) -> FileOperation {
        FileOperation(
            kind: kind,
            file: file,
            offsetBytes: transfer.offset + transfer.done,
            lengthBytes: transfer.length - transfer.done,
            dataOffset: hasData ? Int(transfer.at + transfer.done) : 0
        )
    }

    /// Zeroes by plain writes, the last resort: the IO's own buffer, zeroed, written as often as it takes.
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

    /// The first way to zero that is worth trying: what this file refused once is not asked again, and a hole is no
    /// answer to who wants to keep the blocks.
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
