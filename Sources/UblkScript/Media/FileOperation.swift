/// One operation on a file, as the transport sends it to the kernel.
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

        var hasData: Bool { self == .read || self == .write || self == .writeDurably }
    }

    let kind: Kind
    /// ``FileStore/View/file``.
    let file: Int32
    let offsetBytes: UInt64
    let lengthBytes: UInt64
    /// First byte of the IO's data that is meant, for reads and writes; an IO without data may be longer than any room.
    var dataOffset: Int = 0
}
