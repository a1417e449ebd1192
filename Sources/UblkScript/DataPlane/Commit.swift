/// What the driver is told of a request that is over.
struct Commit {
    /// Bytes done, never 0 for a read or write and never short; or a negative errno.
    var result: Int32
    /// Where a zone append went, in sectors.
    var zoneLBA: UInt64 = 0
    /// The registered buffer of the tag's next request; nil: none.
    var nextBuffer: UInt16?
}
