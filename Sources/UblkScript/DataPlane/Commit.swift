/// The result of a request, as it is committed to the driver.
struct Commit {
    /// Number of bytes done, never 0 for a read or write and never short; or a negative errno.
    var result: Int32
    /// The LBA at which a zone append was written, in sectors.
    var zoneLBA: UInt64 = 0
    /// The registered buffer of the tag's next request; nil: none.
    var nextBuffer: UInt16?
}
