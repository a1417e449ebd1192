import Glibc
import SystemPackage

/// What the kernel writes to for one queue: an IO buffer and scratch room a tag, and the number that
/// a wakeup reads.
///
/// Not the transport's, because closing a ring ends nothing at once: the kernel takes parked
/// commands and reads back some time later, and may write to their memory until then. When the
/// thread that gave them has ended it cannot any more. So whoever joins the queue's thread owns this,
/// and lets go of it afterwards. Used by the queue's thread alone.
@safe
final class TagBuffers: Sendable {
    // Safety: one mapping, made in init, unmapped in deinit; only raw memory is handed out.
    private nonisolated(unsafe) let memory: UnsafeMutableRawPointer
    private let memoryBytes: Int
    let depth: Int
    /// Distance between the buffers of two tags.
    let stride: Int

    /// - Throws: when there is no room for them.
    init(depth: Int, maxIOBytes: Int) throws(DeviceError) {
        self.depth = depth
        stride = SystemPage.roundUp(maxIOBytes) + QueueScratch.bytes
        // The last page is the wakeup's.
        memoryBytes = depth * stride + SystemPage.bytes
        let mapping = unsafe mmap(
            nil,
            memoryBytes,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | Int32(MAP_ANONYMOUS),
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

    /// The buffer of tag 0.
    var first: UnsafeMutableRawPointer { unsafe memory }

    /// The buffer that the value of the eventfd is read to.
    var wakeupValue: UnsafeMutableRawPointer { unsafe memory + depth * stride }
}
