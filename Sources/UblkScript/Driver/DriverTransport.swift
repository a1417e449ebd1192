import CUring
import Glibc
import SystemPackage

/// Indices of the ring's registered files.
private enum FixedFile {
    static let device: Int32 = 0
    static let firstBacking: Int32 = 1
}

/// The transport of a queue to the ublk driver: the mapped IO descriptors of `/dev/ublkcN`, a buffer per tag, and an
/// io_uring.
///
/// Made and used on the queue's thread, because the driver binds a tag to the thread that fetches it and the ring
/// allows one issuer. In copy mode the driver copies a write's data into the tag's buffer before the request arrives,
/// and a read's data out of it at the commit; with user copy the queue has it copied. With NEED_GET_DATA a write is
/// announced first, and the queue hears of it when its data is there. In batches tags have no commands of their own
/// (``BatchCommands``). Memory that the kernel may still write to after the end of the transport is owned by
/// ``TagBuffers``.
@safe
struct DriverTransport<Kernel: DriverKernel>: QueueTransport, ~Copyable {
    // Safety: the mapping lives as long as this value. `buffers` and `wakeupValue` are in TagBuffers, which whoever
    // joins the thread keeps alive longer; no reference is held here. Tags are checked against `depth`.
    private var ring: KernelRing<Kernel>
    private let requests: RequestData<Kernel>
    let puller: DataPuller?
    private let queue: QueueID
    private let mode: DataMode
    let copiesOnDemand: Bool
    let lendsData: Bool
    private let lendsUnasked: Bool
    /// The memory that programs share; nil: there is none.
    private let shared: SharedBuffer.View?
    /// All ones where the driver copies, so that commands take the address of the tag's buffer; else 0.
    private let addressMask: UInt64
    private let depth: Int
    private let bufferBytes: Int
    private let descriptors: UnsafeRawPointer
    /// From one tag's to the next one's.
    private let descriptorStride: Int
    private let mappingBytes: Int
    private let buffers: UnsafeMutableRawPointer
    private let wakeupValue: UnsafeMutableRawPointer
    private let wakeupFD: Int32
    private let isBatched: Bool
    private var batch: BatchCommands?
    private(set) var now: Instant

    /// Makes the ring and maps the descriptors; the caller keeps owning all files.
    ///
    /// - Parameters:
    ///   - memory: the buffers, which must outlive this thread.
    ///   - mode: what the driver has granted.
    ///   - shared: what REG_BUF has told it of, which must outlive this thread, too; nil: nothing.
    ///   - descriptorBytes: ``DeviceInfo/descriptorBytes`` of the device.
    ///   - characterFD: the open `/dev/ublkcN`.
    ///   - wakeupFD: an eventfd that other threads write to.
    ///   - backingFDs: the files, in the order of ``FileStore/View/file``.
    ///   - kernel: the kernel side of the ring, which tests replace.
    /// - Throws: ``DeviceError`` when the ring or a mapping cannot be made.
    init(
        queue: QueueID,
        memory: TagBuffers,
        mode: DataMode,
        shared: SharedBuffer? = nil,
        descriptorBytes: Int,
        characterFD: Int32,
        wakeupFD: Int32,
        backingFDs: [Int32],
        kernel: Kernel
    ) throws(DeviceError) {
        let files = [characterFD] + backingFDs
        let ring = try Self.makeRing(memory, mode, files: files, kernel)
        precondition(
            descriptorBytes >= MemoryLayout<ublk_io_desc>.size && descriptorBytes % 8 == 0,
            "descriptors of \(descriptorBytes) bytes"
        )
        let bytes = SystemPage.roundUp(memory.depth * descriptorBytes)
        let descriptors = unsafe try Self.mapDescriptors(
            queue: queue,
            each: descriptorBytes,
            bytes: bytes,
            characterFD: characterFD
        )
        depth = memory.depth
        descriptorStride = descriptorBytes
        mappingBytes = bytes
        unsafe self.descriptors = descriptors
        self.ring = ring
        let requests = RequestData(kernel: kernel, fd: characterFD, queue: queue, memory: memory)
        self.requests = requests
        puller = mode.serverCopies ? DataPuller { requests.copy($0, $1, pulls: true) } : nil
        self.mode = mode
        copiesOnDemand = mode.serverCopies
        self.shared = shared?.view
        lendsData = mode.lendsPages || shared != nil
        lendsUnasked = mode.lendsUnasked
        addressMask = mode.serverCopies ? 0 : .max
        bufferBytes = memory.stride
        unsafe buffers = memory.first
        unsafe wakeupValue = memory.wakeupValue
        isBatched = mode.isBatched
        batch = mode.isBatched ? BatchCommands(memory) : nil
        self.queue = queue
        self.wakeupFD = wakeupFD
        now = Instant(nanoseconds: sys_monotonic_ns())
    }

    private static func makeRing(
        _ memory: TagBuffers,
        _ mode: DataMode,
        files: [Int32],
        _ kernel: Kernel
    ) throws(DeviceError) -> KernelRing<Kernel> {
        do {
            let depth = memory.depth
            // Room for everything that can be in flight: for each tag its command or a transfer to every file, and the
            // read of the wakeup. The completion ring has twice as many entries; 32768 is the kernel's limit.
            let each = min(max(files.count - 1, 1), IOPlan.transfersMax)
            let ring = try KernelRing(
                entries: UInt32(min(depth * each + 8, 32768)),
                style: .queue,
                kernel: kernel
            )
            try ring.register(files: files)
            // One for each tag, at its number.
            if mode.lendsPages { try ring.register(emptyBuffers: UInt32(depth)) }
            if mode.isBatched {
                let entries = UInt32(BatchRoom(depth: depth).buffers)
                try unsafe ring.register(bufferRing: memory.batchRoom, entries: entries)
            }
            return ring
        } catch { throw .noUring(error) }
    }

    // The kernel does not write through this mapping, so it can go at once; it would keep the device open.
    deinit { unsafe munmap(UnsafeMutableRawPointer(mutating: descriptors), mappingBytes) }

    /// Maps the queue's descriptors.
    ///
    /// The driver accepts only an offset of whole strides of its largest depth, exactly this length, and PROT_READ.
    private static func mapDescriptors(
        queue: QueueID,
        each: Int,
        bytes: Int,
        characterFD: Int32
    ) throws(DeviceError) -> UnsafeRawPointer {
        let stride = SystemPage.roundUp(Int(UBLK_MAX_QUEUE_DEPTH) * each)
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
        return UnsafeRawPointer(mapping)
    }

    /// Queues a fetch for every tag and the read of the wakeup; they are sent by ``sendFetches()`` or the first wait.
    mutating func fetchAll() {
        defer { armWakeup() }
        guard !isBatched else {
            let (first, stride) = unsafe (UInt64(UInt(bitPattern: buffers)), UInt64(bufferBytes))
            batch?.prepare(queue, &ring) { first + UInt64($0.rawValue) * stride }
            return
        }
        // Only a write's data needs an address before its request has come, and not when it is announced.
        let mask = mode == .needGetData ? 0 : addressMask
        for index in 0..<depth {
            submitRequest(UBLK_IO_FETCH_REQ, Tag(UInt16(index)), result: 0, addressMask: mask)
        }
    }

    /// Sends the fetches without waiting for a completion, so that START_DEV can proceed.
    mutating func sendFetches() { ring.submit() }

    mutating func wait(until deadline: Instant?) {
        let completions = isBatched ? batch?.sendCommits(queue, &ring) ?? 1 : 1
        if let deadline {
            let current = sys_monotonic_ns()
            ring.wait(
                timeoutNanoseconds: deadline.nanoseconds(since: Instant(nanoseconds: current)),
                completions: completions
            )
        } else {
            ring.wait(timeoutNanoseconds: nil, completions: completions)
        }
        now = Instant(nanoseconds: sys_monotonic_ns())
    }

    @inline(__always)
    mutating func nextEvent() -> QueueEvent? {
        if isBatched, let tag = batch?.nextTag() { return .fetched(tag) }
        while let (userData, result) = ring.nextCompletion() {
            let tag = userData.tag
            switch userData.kind {
            case .request:
                if result == 0 { return .fetched(tag) }
                if !isAnnounced(tag, result) { return .aborted(tag) }
            case .operation:
                return .operation(tag, transfer: userData.transfer, result: result)
            case .wakeup:
                armWakeup()
                return .wakeup
            case .loan:
                // What was lent can be taken back; a request whose pages stay lent never ends. That is a bug here.
                precondition(userData.transfer == 0, "pages cannot be taken back: errno \(-result)")
                return .notLent(tag)
            case .tags:
                batch?.came(result, flags: ring.lastFlags, queue, &ring)
                if let tag = batch?.nextTag() { return .fetched(tag) }
            case .committed: batch?.committed(tag.index, result)
            case .prepared: batch?.prepared(result)
            default: preconditionFailure("a completion nobody asked for: \(userData.rawValue)")
            }
        }
        return isBatched ? batch?.nextAborted().map { .aborted($0) } : nil
    }

    /// A command of the tag has ended otherwise than with a request: a write is announced, or the tag is gone.
    ///
    /// The data of the write is asked for at once, as the driver takes no commit before: not even of a write that
    /// fails.
    @inline(never)
    private mutating func isAnnounced(_ tag: Tag, _ result: Int32) -> Bool {
        if mode == .needGetData, result == Int32(UBLK_IO_RES_NEED_GET_DATA) {
            submitRequest(UBLK_IO_NEED_GET_DATA, tag, result: 0, addressMask: addressMask)
            return true
        }
        // When the driver rejects a command, the request is lost until the device goes. That is a bug here.
        precondition(
            result == -Errno.operationNotSupportedByDevice.rawValue
                || result == -Errno.canceled.rawValue,
            "the driver rejected a command of tag \(tag.rawValue): errno \(-result)"
        )
        return false
    }

    @inline(__always)
    func desc(_ tag: Tag) -> IODesc { IODesc(descriptor(tag)) }

    @inline(__always)
    private func descriptor(_ tag: Tag) -> ublk_io_desc {
        precondition(tag.index < depth)
        let place = unsafe descriptors + tag.index * descriptorStride
        return unsafe place.load(as: ublk_io_desc.self)
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
        guard !isBatched else {
            let address = unsafe UInt64(UInt(bitPattern: buffer(tag)))
            batch?.commit(tag, result: commit.result, address: address, queue, &ring)
            return
        }
        submitRequest(
            UBLK_IO_COMMIT_AND_FETCH_REQ,
            tag,
            result: commit.result,
            addressMask: addressMask
        )
    }

    @inline(__always)
    private mutating func submitRequest(
        _ code: UInt32,
        _ tag: Tag,
        result: Int32,
        addressMask: UInt64
    ) {
        let address = unsafe UInt64(UInt(bitPattern: buffer(tag))) & addressMask
        let sqe = unsafe ring.submission()
        let registration = lendsUnasked ? ublk_auto_buf_reg(tag.rawValue) : 0
        unsafe uring_prep_ublk_io(
            sqe,
            code,
            queue.rawValue,
            tag.rawValue,
            result,
            address,
            registration
        )
        unsafe sqe.pointee.user_data = UserData(.request, tag: tag).rawValue
    }

    // Both are carried out when they are sent, in order with the operations between them; only a failure is told.
    mutating func lend(_ tag: Tag) { submitLoan(UBLK_IO_REGISTER_IO_BUF, tag, number: 0) }
    mutating func takeBack(_ tag: Tag) { submitLoan(UBLK_IO_UNREGISTER_IO_BUF, tag, number: 1) }

    private mutating func submitLoan(_ code: UInt32, _ tag: Tag, number: Int) {
        guard mode.lendsPages, !lendsUnasked else { return }
        let sqe = unsafe ring.submission()
        let place = UInt64(tag.rawValue)
        unsafe uring_prep_ublk_io(sqe, code, queue.rawValue, tag.rawValue, 0, place, 0)
        unsafe uring_skip_success(sqe)
        unsafe sqe.pointee.user_data = UserData(.loan, tag: tag, transfer: number).rawValue
    }

    func lentData(_ tag: Tag, _ flags: IOFlags, length: UInt64) -> IOData {
        guard let shared else { return flags.contains(.isNotRegistered) ? .absent : .registered }
        guard flags.contains(.isShared),
            let place = unsafe shared.place(of: descriptor(tag).addr, length: length)
        else { return .absent }
        return unsafe .shared(place)
    }

    /// The data that an operation on the pages of a request is about; with pages in the ring's table it has no address.
    @inline(never)
    private func requestData(_ tag: Tag) -> UnsafeMutableRawPointer {
        guard let shared else { return unsafe buffer(tag) }
        guard let place = unsafe shared.place(of: descriptor(tag).addr, length: 0) else {
            preconditionFailure("an operation on data that is not shared")
        }
        return unsafe place
    }

    func pullData(_ tag: Tag, bytes: Int) -> Int32 { requests.copy(tag, bytes, pulls: true) }
    func pushData(_ tag: Tag, bytes: Int) -> Int32 { requests.copy(tag, bytes, pulls: false) }

    mutating func submit(_ operation: FileOperation, for tag: Tag, transfer: Int) {
        let first = unsafe operation.isOnRequest ? requestData(tag) : buffer(tag)
        let data = unsafe first + operation.dataOffset
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
        if operation.isOnRequest, shared == nil {
            unsafe uring_use_registered_buffer(sqe, tag.rawValue, UInt64(operation.dataOffset))
        }
        unsafe sqe.pointee.user_data = UserData(.operation, tag: tag, transfer: transfer).rawValue
    }

    private mutating func armWakeup() {
        let sqe = unsafe ring.submission()
        unsafe io_uring_prep_read(sqe, wakeupFD, wakeupValue, 8, 0)
        unsafe sqe.pointee.user_data = UserData(.wakeup).rawValue
    }
}
