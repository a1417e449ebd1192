import Glibc
import SystemPackage

/// The memory of one queue that the kernel writes to: for each tag an IO buffer and scratch space, the value that the
/// read of the eventfd returns, and what ``BatchCommands`` needs.
///
/// Not owned by the transport, because closing a ring ends nothing at once: the kernel cancels pending commands and
/// reads some time later, and may write to their memory until then. Once the thread that submitted them has ended it
/// cannot any more. So the owner is whoever joins the queue's thread, and frees this afterwards. Used by the queue's
/// thread alone.
@safe
final class TagBuffers: Sendable {
    // Safety: one mapping, made in init, unmapped in deinit; only raw memory is handed out.
    private nonisolated(unsafe) let memory: UnsafeMutableRawPointer
    private let memoryBytes: Int
    let depth: Int
    /// Distance between the buffers of two tags.
    let stride: Int
    private let batchBytes: Int

    /// Maps the memory; none of it is used before an IO uses it.
    ///
    /// The kernel sets nothing aside for it (NORESERVE): the deepest queue of the largest IOs has 128 GiB of addresses,
    /// of which only data that is really copied takes pages.
    ///
    /// - Parameters:
    ///   - depth: number of tags.
    ///   - maxIOBytes: the largest IO.
    ///   - isBatched: with room for ``BatchCommands``.
    /// - Throws: ``DeviceError`` when there is no memory.
    init(depth: Int, maxIOBytes: Int, isBatched: Bool = false) throws(DeviceError) {
        self.depth = depth
        stride = SystemPage.roundUp(maxIOBytes) + QueueScratch.bytes
        batchBytes = isBatched ? BatchRoom(depth: depth).byteCount : 0
        // A page is for the eventfd's value.
        memoryBytes = depth * stride + SystemPage.bytes + batchBytes
        let mapping = unsafe mmap(
            nil,
            memoryBytes,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE),
            -1,
            0
        )
        guard let mapping = unsafe mapping, unsafe mapping != MAP_FAILED else {
            throw .system(
                call: "mmap of",
                path: "\(depth) IO buffers of \(maxIOBytes) bytes",
                Errno(rawValue: Glibc.errno)
            )
        }
        unsafe memory = mapping
    }

    deinit { unsafe munmap(memory, memoryBytes) }

    /// Has all of it in memory before the first IO.
    func populate() throws(Errno) {
        try unsafe LockedMemory.populate(
            UnsafeMutableRawBufferPointer(start: memory, count: memoryBytes)
        )
    }

    /// How much of it the tags of one queue have.
    static func byteCount(depth: Int, maxIOBytes: Int) -> UInt64 {
        UInt64(depth) * UInt64(SystemPage.roundUp(maxIOBytes) + QueueScratch.bytes)
    }

    /// The buffer of tag 0.
    var first: UnsafeMutableRawPointer { unsafe memory }

    /// The buffer that the value of the eventfd is read to.
    var wakeupValue: UnsafeMutableRawPointer { unsafe memory + depth * stride }

    /// The room for ``BatchCommands``, whole pages.
    ///
    /// - Precondition: it was asked for.
    var batchRoom: UnsafeMutableRawPointer {
        precondition(batchBytes > 0, "memory without room for batches")
        return unsafe wakeupValue + SystemPage.bytes
    }
}
