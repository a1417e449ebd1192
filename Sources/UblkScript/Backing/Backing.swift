/// Where the bytes of a device live.
///
/// A value without owners inside, so that a queue can switch over it for each IO without reference
/// counting; whoever made the store (the device server, the simulator) keeps it alive longer than
/// the queues.
enum Backing {
    /// Reads leave the buffer as it is, writes vanish.
    case null
    /// Anonymous memory: sparse, holes read zero.
    case memory(MemoryStore.View)
    /// A file or block device, through the queue's own ring.
    case file(FileStore.View)

    /// Bytes that can be asked for; nil: any.
    var sizeBytes: UInt64? {
        switch self {
        case .null: nil
        case .memory(let view): view.sizeBytes
        case .file(let view): view.sizeBytes
        }
    }
}

/// One operation on a file backing, as the transport sends it to the kernel.
struct FileOperation {
    enum Kind: UInt8 {
        case read
        case write
        /// A write that is durable when it completes: RWF_DSYNC.
        case writeDurably
        /// fdatasync.
        case sync
        /// Deallocate; reads zero afterwards.
        ///
        /// FALLOC_FL_PUNCH_HOLE.
        case punchHole
        /// Zero without deallocating where the filesystem can.
        ///
        /// FALLOC_FL_ZERO_RANGE.
        case zeroRange
    }

    let kind: Kind
    /// ``FileStore/View/file``.
    let file: Int32
    let offsetBytes: UInt64
    let lengthBytes: UInt64
    /// First byte of the tag's buffer that is meant, for reads and writes.
    var bufferOffset: Int = 0
}
