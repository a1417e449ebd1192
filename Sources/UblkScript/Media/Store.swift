import SystemPackage

/// A store of a device, as one queue works on it.
///
/// A value that holds no references, so that a queue can switch over it for each IO without reference counting;
/// ``DeviceStores`` keeps memory and files alive longer than the queues. Queue thread. A new kind of store is a case
/// here, a case there, and a file of its own.
enum Store {
    case null(NullStore)
    case memory(MemoryStore.View)
    /// Memory that outlives the server.
    case kept(KeptStore.View)
    /// A file or a block device, through the queue's own ring.
    case file(FileStore.View)

    /// Size of the store in bytes; nil: there is no limit.
    var sizeBytes: UInt64? {
        switch self {
        case .null: nil
        case .memory(let view): view.sizeBytes
        case .kept(let view): view.sizeBytes
        case .file(let view): view.sizeBytes
        }
    }

    /// Tells the store that it has become larger; one without bytes has no size.
    mutating func grow(to sizeBytes: UInt64) {
        switch self {
        case .null: break
        case .memory(var view):
            view.sizeBytes = sizeBytes
            self = .memory(view)
        case .kept(var view):
            view.sizeBytes = sizeBytes
            self = .kept(view)
        case .file(var view):
            view.sizeBytes = sizeBytes
            self = .file(view)
        }
    }

    /// Begins a transfer.
    ///
    /// - Parameters:
    ///   - transfer: fails when it is not within ``sizeBytes``; the store keeps its progress there.
    ///   - data: the IO's data, which must be mapped for a memory store.
    @inline(__always)
    mutating func begin(_ transfer: inout Transfer, _ data: IOData) -> StoreStep {
        switch self {
        case .null: return .done
        case .memory(let memory): return memory.perform(transfer, data)
        case .kept(let kept): return kept.perform(transfer, data)
        case .file(var file):
            defer { self = .file(file) }
            return file.begin(&transfer, data)
        }
    }

    /// Continues a transfer after one of its operations has ended.
    ///
    /// - Parameter result: number of bytes, 0, or a negative errno.
    mutating func finished(
        _ transfer: inout Transfer,
        _ result: Int32,
        _ data: IOData
    ) -> StoreStep {
        switch self {
        case .null, .memory, .kept:
            preconditionFailure("an operation ended on a store that has none")
        case .file(var file):
            defer { self = .file(file) }
            return file.finished(&transfer, result, data)
        }
    }
}

/// The next step of a transfer.
enum StoreStep {
    /// The transfer is complete.
    case done
    /// The queue submits this operation and passes its result to ``Store/finished(_:_:_:)``.
    case submit(FileOperation)
    /// The transfer has failed.
    ///
    /// - Parameter note: text for the log, after the errno: ": why", or "".
    case failed(errno: Int32, note: StaticString)
}

/// A segment of an IO in transfer between the IO's data and a store, with its progress.
struct Transfer {
    /// The operation on the bytes; after a ``IOOp/discard`` their content is undefined.
    var op: IOOp
    /// The bytes must be durable before the transfer completes (FUA).
    var isDurable = false
    /// Zeroing must not deallocate the blocks (NOUNMAP).
    var keepsBlocks = false
    /// The way in which the file store zeroes the bytes at present.
    var zeroing = FileStore.Zeroing.zeroRange
    /// Number of the store.
    var store: UInt32
    /// Offset in the IO's data, bytes.
    var at: UInt64
    /// Number of bytes; 0 for a flush.
    var length: UInt64
    /// Offset in the store, bytes.
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

    /// The bytes are in a store of that size.
    ///
    /// Those of a rule or handler are, which the plan checks; of the device's own IO the driver checks it, by a size
    /// that another program may have changed (UPDATE_SIZE).
    @inline(__always)
    func isWithin(_ sizeBytes: UInt64) -> Bool {
        op == .flush || offset <= sizeBytes && length <= sizeBytes - offset
    }
}

extension StoreStep {
    /// The outcome of a transfer that is not ``Transfer/isWithin(_:)`` its store.
    static var pastEnd: StoreStep {
        .failed(
            errno: Errno.ioError.rawValue,
            note: ": past the end of its backing, as another program has made the device larger"
        )
    }
}

/// The location of an IO's data.
@safe
enum IOData {
    // Safety: the buffer is at least as long as the queue's largest IO; see ``QueueTransport/data(_:)``.
    /// The data has not been asked for, or the IO has none.
    case absent
    /// The data is in our memory, at this address.
    case mapped(UnsafeMutableRawPointer)
    /// The data is in the kernel, in the pages of the request, which the transport finds by the tag.
    case registered
    /// The data is in memory that the program which asked for the IO has mapped, too, at this address.
    case shared(UnsafeMutableRawPointer)

    /// The address of mapped data; a precondition, as whoever reads or changes data must have asked for it before.
    @inline(__always)
    var bytes: UnsafeMutableRawPointer {
        switch self {
        case .mapped(let first), .shared(let first): return unsafe first
        case .absent, .registered:
            preconditionFailure("data is looked at that was not asked for")
        }
    }
}

extension Store {
    /// True when data that is written to one store can be read from the other.
    func isSame(as other: Store) -> Bool {
        switch (self, other) {
        case (.memory(let one), .memory(let other)): one.isSame(as: other)
        case (.kept(let one), .kept(let other)): one.isSame(as: other)
        case (.file(let one), .file(let other)): one.file == other.file
        default: false
        }
    }
}
