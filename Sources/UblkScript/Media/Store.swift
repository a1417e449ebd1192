/// Where the bytes of a device live, as one queue works on them.
///
/// A value without owners inside, so that a queue can switch over it for each IO without reference counting;
/// ``DeviceStores`` keeps it alive longer than the queues. A new kind of store is a case here, its file, and a line
/// there.
enum Store {
    case null(NullStore)
    case memory(MemoryStore.View)
    /// A file or a block device, through the queue's own ring.
    case file(FileStore.View)

    /// Size of the store; nil: any offset can be used.
    var sizeBytes: UInt64? {
        switch self {
        case .null: nil
        case .memory(let view): view.sizeBytes
        case .file(let view): view.sizeBytes
        }
    }

    /// Begins a transfer, from its first byte.
    ///
    /// - Parameters:
    ///   - transfer: within ``sizeBytes``; what it says of its progress is the store's.
    ///   - data: the IO's; mapped, for a store that copies.
    @inline(__always)
    mutating func begin(_ transfer: inout Transfer, _ data: IOData) -> StoreStep {
        switch self {
        case .null: return .done
        case .memory(let memory): return memory.perform(transfer, data)
        case .file(var file):
            defer { self = .file(file) }
            return file.begin(&transfer, data)
        }
    }

    /// Goes on with a transfer one of whose operations is over.
    ///
    /// - Parameter result: bytes, 0, or a negative errno.
    mutating func finished(
        _ transfer: inout Transfer,
        _ result: Int32,
        _ data: IOData
    ) -> StoreStep {
        switch self {
        case .null, .memory: preconditionFailure("an operation ended on a store that has none")
        case .file(var file):
            defer { self = .file(file) }
            return file.finished(&transfer, result, data)
        }
    }
}

/// The next step of a transfer.
enum StoreStep {
    case done
    /// The queue's ring does this; its end goes to ``Store/finished(_:_:_:)``.
    case submit(FileOperation)
    /// - Parameter note: for the log, behind the IO and the errno: ": why".
    case failed(errno: Int32, note: StaticString)
}

/// One segment of an IO on its way between the IO's data and a store.
struct Transfer {
    /// The operation on the bytes; after a ``IOOp/discard`` their content is undefined.
    var op: IOOp
    /// On the medium before it is over: FUA.
    var isDurable = false
    /// Zeroes take the space of their blocks: NOUNMAP.
    var keepsBlocks = false
    /// The way in which the file store zeroes the bytes at present.
    var zeroing = FileStore.Zeroing.zeroRange
    /// Number of the store.
    var store: UInt32
    /// First byte in the IO's data.
    var at: UInt64
    /// Bytes; 0 for a flush.
    var length: UInt64
    /// First byte in the store.
    var offset: UInt64
    /// Number of bytes that are done; set by the store.
    var done: UInt64 = 0

    @inline(__always)
    init(_ op: IOOp, store: UInt32, at: UInt64, length: UInt64, offset: UInt64) {
        self.op = op
        self.store = store
        self.at = at
        self.length = length
        self.offset = offset
    }
}

/// Where an IO's data is.
@safe
enum IOData {
    // Safety: the room is as long as the queue's largest IO, and what lies behind it; see ``QueueTransport/data(_:)``.
    /// Nobody has asked for it, or the IO has none.
    case absent
    /// In memory of ours, which begins here.
    case mapped(UnsafeMutableRawPointer)
    /// With the kernel, in this buffer of the ring's.
    case registered(UInt16)

    /// For stores and effects that look at bytes: who plans for them asks for mapped data.
    @inline(__always)
    var bytes: UnsafeMutableRawPointer {
        guard case .mapped(let first) = self else {
            preconditionFailure("data is looked at that was not asked for")
        }
        return unsafe first
    }
}

extension Store {
    /// True when data that is written to one store can be read from the other.
    func isSame(as other: Store) -> Bool {
        switch (self, other) {
        case (.memory(let one), .memory(let other)): one.isSame(as: other)
        case (.file(let one), .file(let other)): one.file == other.file
        default: false
        }
    }
}
