import CUring

/// Memory that the driver knows as shared (REG_BUF), under a number.
///
/// Another program that may give our device commands can register memory of its own there, which we have not mapped:
/// requests with data in it come marked as well, but under another number, and are copied like all others.
struct SharedBuffer: Sendable {
    let memory: SharedMemory
    let number: UInt16

    /// The buffer for a queue: a value that holds no reference, valid while the memory lives.
    var view: View {
        unsafe View(first: memory.first, byteCount: UInt64(memory.byteCount), number: number)
    }

    @safe
    struct View {
        // Safety: the memory's mapping; `place` checks its range.
        fileprivate let first: UnsafeMutableRawPointer
        fileprivate let byteCount: UInt64
        fileprivate let number: UInt16

        /// The data of a marked request.
        ///
        /// - Parameter address: that of its descriptor.
        /// - Returns: nil when not all of it is in this buffer.
        func place(of address: UInt64, length: UInt64) -> UnsafeMutableRawPointer? {
            let offset = UInt64(ublk_shared_offset(address))
            guard ublk_shared_number(address) == number, offset <= byteCount,
                length <= byteCount - offset
            else { return nil }
            return unsafe first + Int(offset)
        }
    }
}
