import CUring
import SystemPackage

/// The data of one queue's requests in the driver, which is copied from and to `/dev/ublkcN` (user copy).
///
/// A value that is the same for the queue's life. Queue thread.
@safe
struct RequestData<Kernel: DriverKernel> {
    // Safety: the buffers of TagBuffers, `depth` of them and `stride` apart; tags and lengths are checked.
    private let kernel: Kernel
    private let fd: Int32
    private let queue: QueueID
    private let buffers: UnsafeMutableRawPointer
    private let stride: Int
    private let depth: Int

    /// - Parameters:
    ///   - fd: the open `/dev/ublkcN`.
    ///   - memory: must outlive this value.
    init(kernel: Kernel, fd: Int32, queue: QueueID, memory: TagBuffers) {
        self.kernel = kernel
        self.fd = fd
        self.queue = queue
        unsafe buffers = memory.first
        stride = memory.stride
        depth = memory.depth
    }

    /// Copies the data of a write into the tag's buffer, or that of a read out of it, in as many calls as it takes.
    ///
    /// - Returns: 0 or an errno.
    func copy(_ tag: Tag, _ bytes: Int, pulls: Bool) -> Int32 {
        precondition(tag.index < depth && bytes <= stride - QueueScratch.bytes)
        let first = ublk_data_position(queue.rawValue, tag.rawValue)
        let buffer = unsafe buffers + tag.index * stride
        var done = 0
        while done < bytes {
            let place = unsafe buffer + done
            let position = first + Int64(done)
            let result =
                unsafe pulls
                ? kernel.read(fd, place, count: bytes - done, at: position)
                : kernel.write(fd, place, count: bytes - done, at: position)
            // Nothing at all is how the driver says that it cannot get at our memory.
            guard result > 0 else {
                return result == 0 ? Errno.badAddress.rawValue : Int32(clamping: -result)
            }
            done += result
        }
        return 0
    }
}
