import CUring
import Glibc
import SystemPackage

/// Registered files of the ring, by index.
private enum FixedFile {
    static let device: Int32 = 0
    static let firstBacking: Int32 = 1
}

/// The real driver behind a queue: the mapped descriptors of `/dev/ublkcN`, a buffer a tag, and a
/// ring.
///
/// Made on the queue's thread, because the driver binds a tag to the thread that fetches it and the
/// ring allows one issuer. Copy mode: the driver copies write data into the tag's buffer before a
/// request arrives, and read data out of it at the commit. It frees nothing that the kernel may
/// still write to: that is ``TagBuffers``'.
@safe
struct DriverTransport<Kernel: UringKernel>: QueueTransport, ~Copyable {
    // Safety: the mapping lives as long as this value, `buffers` and `wakeupValue` longer, as whoever joins the
    // thread keeps them, and no reference to that is counted here; tags are checked against `depth`.
    private var ring: KernelRing<Kernel>
    private let queue: QueueID
    private let depth: Int
    private let bufferBytes: Int
    private let descriptors: UnsafePointer<ublk_io_desc>
    private let descriptorBytes: Int
    private let buffers: UnsafeMutableRawPointer
    private let wakeupValue: UnsafeMutableRawPointer
    private let wakeupFD: Int32
    private(set) var now: Instant

    /// - Parameters:
    ///   - memory: of the queue's depth; whoever joins this thread keeps it until then.
    ///   - characterFD: the open `/dev/ublkcN`; stays the caller's.
    ///   - wakeupFD: an eventfd that other threads write to; stays the caller's.
    ///   - backingFDs: of file backings, in their order; stay the caller's.
    ///   - kernel: the other side of the ring.
    /// - Throws: ``DeviceError`` when the ring or a mapping cannot be made.
    init(
        queue: QueueID,
        memory: TagBuffers,
        characterFD: Int32,
        wakeupFD: Int32,
        backingFDs: [Int32],
        kernel: Kernel
    ) throws(DeviceError) {
        let files = [characterFD] + backingFDs
        let ring = try Self.makeRing(depth: memory.depth, files: files, kernel)
        let bytes = SystemPage.roundUp(memory.depth * MemoryLayout<ublk_io_desc>.stride)
        let descriptors = unsafe try Self.mapDescriptors(
            queue: queue,
            bytes: bytes,
            characterFD: characterFD
        )
        depth = memory.depth
        descriptorBytes = bytes
        unsafe self.descriptors = descriptors
        self.ring = ring
        bufferBytes = memory.stride
        unsafe buffers = memory.first
        unsafe wakeupValue = memory.wakeupValue
        self.queue = queue
        self.wakeupFD = wakeupFD
        now = Instant(nanoseconds: sys_monotonic_ns())
    }

    private static func makeRing(
        depth: Int,
        files: [Int32],
        _ kernel: Kernel
    ) throws(DeviceError) -> KernelRing<Kernel> {
        do {
            // Room for all that can be under way: the command of each tag, or a transfer of each to every file; the
            // rest is the wakeup's. The kernel gives twice as many completions, and at most so many entries.
            let each = min(max(files.count - 1, 1), IOPlan.transfersMax)
            let ring = try KernelRing(
                entries: UInt32(min(depth * each + 8, 32768)),
                style: .queue,
                kernel: kernel
            )
            try ring.register(files: files)
            return ring
        } catch { throw .noUring(error) }
    }

    /// The kernel does not write to the descriptors through this mapping, and keeps the device open
    /// as long as it is there.
    deinit { unsafe munmap(UnsafeMutableRawPointer(mutating: descriptors), descriptorBytes) }

    /// The driver takes only its own stride (of the largest depth), exactly this length, and
    /// read-only.
    private static func mapDescriptors(
        queue: QueueID,
        bytes: Int,
        characterFD: Int32
    ) throws(DeviceError) -> UnsafePointer<ublk_io_desc> {
        let stride = SystemPage.roundUp(
            Int(UBLK_MAX_QUEUE_DEPTH) * MemoryLayout<ublk_io_desc>.stride
        )
        guard
            let mapping = unsafe mmap(
                nil,
                bytes,
                PROT_READ,
                MAP_SHARED | Int32(MAP_POPULATE),
                characterFD,
                off_t(queue.index * stride)
            ), unsafe mapping != MAP_FAILED
        else {
            throw .system(
                call: "mmap of queue \(queue.rawValue) of",
                path: "the ublkc device",
                Errno(rawValue: Glibc.errno)
            )
        }
        return unsafe UnsafePointer(mapping.assumingMemoryBound(to: ublk_io_desc.self))
    }

    /// Offers every tag to the driver and listens for wakeups.
    ///
    /// They are sent at the first wait.
    mutating func fetchAll() {
        for index in 0..<depth { submitRequest(UBLK_IO_FETCH_REQ, Tag(UInt16(index)), result: 0) }
        armWakeup()
    }

    /// Sends the fetches without waiting for a request, so that START_DEV can go on.
    mutating func sendFetches() { ring.submit() }

    mutating func wait(until deadline: Instant?) {
        if let deadline {
            let current = sys_monotonic_ns()
            ring.wait(
                timeoutNanoseconds: deadline.nanoseconds(since: Instant(nanoseconds: current))
            )
        } else {
            ring.wait(timeoutNanoseconds: nil)
        }
        now = Instant(nanoseconds: sys_monotonic_ns())
    }

    @inline(__always)
    mutating func nextEvent() -> QueueEvent? {
        guard let (userData, result) = ring.nextCompletion() else { return nil }
        let tag = userData.tag
        switch userData.kind {
        case .request:
            if result == 0 { return .fetched(tag) }
            // A command that the driver rejects is a request lost until the device goes: our bug,
            // stop loudly.
            precondition(
                result == -Errno.operationNotSupportedByDevice.rawValue
                    || result == -Errno.canceled.rawValue,
                "the driver rejected a command of tag \(tag.rawValue): errno \(-result)"
            )
            return .aborted(tag)
        case .operation:
            return .operation(tag, transfer: userData.transfer, result: result)
        case .wakeup:
            armWakeup()
            return .wakeup
        default: preconditionFailure("a completion nobody asked for: \(userData.rawValue)")
        }
    }

    @inline(__always)
    func desc(_ tag: Tag) -> IODesc {
        precondition(tag.index < depth)
        return unsafe IODesc(descriptors[tag.index])
    }

    @inline(__always)
    func data(_ tag: Tag) -> IOData { unsafe .mapped(buffer(tag)) }

    @inline(__always)
    private func buffer(_ tag: Tag) -> UnsafeMutableRawPointer {
        precondition(tag.index < depth)
        return unsafe buffers + tag.index * bufferBytes
    }

    var scratchOffset: Int { bufferBytes - QueueScratch.bytes }

    @inline(__always)
    mutating func commit(_ tag: Tag, _ commit: Commit) {
        submitRequest(UBLK_IO_COMMIT_AND_FETCH_REQ, tag, result: commit.result)
    }

    @inline(__always)
    private mutating func submitRequest(_ code: UInt32, _ tag: Tag, result: Int32) {
        let address = unsafe UInt64(UInt(bitPattern: buffer(tag)))
        let sqe = unsafe ring.submission()
        unsafe uring_prep_ublk_io(sqe, code, queue.rawValue, tag.rawValue, result, address)
        unsafe sqe.pointee.user_data = UserData(.request, tag: tag).rawValue
    }

    mutating func submit(_ operation: FileOperation, for tag: Tag, transfer: Int) {
        let data = unsafe buffer(tag) + operation.dataOffset
        let length = UInt32(clamping: operation.lengthBytes)
        let file = FixedFile.firstBacking + operation.file
        let sqe = unsafe ring.submission()
        switch operation.kind {
        case .read: unsafe io_uring_prep_read(sqe, file, data, length, operation.offsetBytes)
        case .write: unsafe io_uring_prep_write(sqe, file, data, length, operation.offsetBytes)
        case .writeDurably:
            unsafe io_uring_prep_write(sqe, file, data, length, operation.offsetBytes)
            unsafe sqe.pointee.rw_flags = sys_rwf_dsync()
        case .sync: unsafe io_uring_prep_fsync(sqe, file, UInt32(IORING_FSYNC_DATASYNC))
        case .punchHole:
            unsafe io_uring_prep_fallocate(
                sqe,
                file,
                sys_fallocate_punch(),
                off_t(operation.offsetBytes),
                off_t(operation.lengthBytes)
            )
        case .zeroRange:
            unsafe io_uring_prep_fallocate(
                sqe,
                file,
                sys_fallocate_zero(),
                off_t(operation.offsetBytes),
                off_t(operation.lengthBytes)
            )
        }
        unsafe uring_use_fixed_file(sqe)
        unsafe sqe.pointee.user_data = UserData(.operation, tag: tag, transfer: transfer).rawValue
    }

    private mutating func armWakeup() {
        let sqe = unsafe ring.submission()
        unsafe io_uring_prep_read(sqe, wakeupFD, wakeupValue, 8, 0)
        unsafe sqe.pointee.user_data = UserData(.wakeup).rawValue
    }
}

extension DriverTransport where Kernel == LinuxKernel {
    /// On the kernel that this program runs on.
    init(
        queue: QueueID,
        memory: TagBuffers,
        characterFD: Int32,
        wakeupFD: Int32,
        backingFDs: [Int32]
    ) throws(DeviceError) {
        try self.init(
            queue: queue,
            memory: memory,
            characterFD: characterFD,
            wakeupFD: wakeupFD,
            backingFDs: backingFDs,
            kernel: LinuxKernel()
        )
    }
}
