/// One operation on a file, as the transport sends it to the kernel.
struct FileOperation {
    enum Kind: UInt8 {
        case read
        case write
        /// A write that is durable when it completes (RWF_DSYNC).
        case writeDurably
        /// An fdatasync.
        case sync
        /// Deallocates the bytes, which read as zeroes afterwards (FALLOC_FL_PUNCH_HOLE).
        case punchHole
        /// Zeroes the bytes without deallocating them, where the filesystem can (FALLOC_FL_ZERO_RANGE).
        case zeroRange

        var hasData: Bool { self == .read || self == .write || self == .writeDurably }
    }

    let kind: Kind
    /// Index of the file: ``FileStore/View/file``.
    let file: Int32
    let offsetBytes: UInt64
    let lengthBytes: UInt64
    /// Offset in the IO's data, for operations that have data; 0 for others, which may be longer than the buffer.
    var dataOffset: Int = 0
    /// The data is not in our buffer: the pages of the request itself are read to or written from, those of the kernel
    /// or those that are shared.
    var isOnRequest = false
}
