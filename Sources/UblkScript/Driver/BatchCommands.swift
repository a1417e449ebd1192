import CUring
import SystemPackage

/// Where what is in the memory of a queue that fetches and commits many tags at a time.
struct BatchRoom {
    /// Buffers that tags come in.
    ///
    /// As many as there are tags, as each brings one at least, so that the command that brings them does not run out of
    /// them; of the deepest queues a part, where the command may have to be given again.
    let buffers: Int
    /// Tags that one buffer takes.
    let tagsEach: Int
    let elementsOffset: Int
    let tagsOffset: Int
    let ownersOffset: Int
    let byteCount: Int

    private static let buffersMax = 256

    init(depth: Int) {
        var count = 1
        while count < min(depth, Self.buffersMax) { count *= 2 }
        buffers = count
        tagsEach = min(depth, Int(UBLK_BATCH_MAX_TAGS))
        // The ring of the buffers is first: 16 bytes each, on whole pages.
        elementsOffset = SystemPage.roundUp(16 * count)
        tagsOffset = elementsOffset + depth * MemoryLayout<ublk_batch_element>.stride
        ownersOffset = tagsOffset + count * tagsEach * MemoryLayout<UInt16>.stride
        byteCount = SystemPage.roundUp(ownersOffset + depth)
    }
}

/// The commands of a queue whose tags are fetched and committed many at a time (UBLK_F_BATCH_IO).
///
/// The driver gets all tags once (PREP_IO_CMDS). One command stays in the driver (FETCH_IO_CMDS, multishot) and brings
/// the tags of requests in buffers that the kernel takes from a ring of them; each goes back to the ring when its tags
/// were told. The results of a turn are the elements of one COMMIT_IO_CMDS.
///
/// No tag has a command of its own that could end with its abort. So when the one command has ended for good, all tags
/// that the driver has are gone, and the others as soon as their results were taken. Queue thread. What the plain way
/// meets only as a flag is not inlined there.
///
///     room: | ring of buffers | element of each commit | buffers of tags | owner of each tag |
@safe
struct BatchCommands {
    // Safety: the room is in TagBuffers, which outlive the transport; indices are checked against `depth` and `room`.
    private let room: BatchRoom
    private let ring: UnsafeMutableRawPointer
    /// Used round and round: of a tag no result can be waiting to be taken when there is another one, so `depth` are
    /// enough for all that wait.
    private let elements: UnsafeMutablePointer<ublk_batch_element>
    private let tags: UnsafeMutablePointer<UInt16>
    private let owners: UnsafeMutablePointer<UInt8>
    private let depth: Int

    private enum Owner {
        static let driver: UInt8 = 0
        static let server: UInt8 = 1
        static let nobody: UInt8 = 2
    }

    /// The next tag to tell, and how many are left of its buffer.
    private var position = 0
    private var left = 0
    private var buffer = 0
    /// The elements that no command has been made for.
    private var first = 0
    private var waiting = 0
    /// COMMIT_IO_CMDS that have not been answered.
    private var unanswered: UInt32 = 0
    private var isGone = false

    /// Gives all buffers to the kernel, once their ring is known to it.
    ///
    /// - Parameter memory: with room for batches.
    init(_ memory: TagBuffers) {
        depth = memory.depth
        let room = BatchRoom(depth: memory.depth)
        self.room = room
        let start = unsafe memory.batchRoom
        unsafe ring = start
        unsafe elements = (start + room.elementsOffset).assumingMemoryBound(
            to: ublk_batch_element.self
        )
        unsafe tags = (start + room.tagsOffset).assumingMemoryBound(to: UInt16.self)
        unsafe owners = (start + room.ownersOffset).assumingMemoryBound(to: UInt8.self)
        for index in 0..<room.buffers { give(index) }
    }

    private func give(_ index: Int) {
        unsafe uring_give_buffer(
            ring,
            UInt32(room.buffers),
            tags + index * room.tagsEach,
            UInt32(room.tagsEach * MemoryLayout<UInt16>.stride),
            UInt16(index)
        )
    }

    // MARK: Commands

    /// All tags, for the driver.
    mutating func prepare<Kernel: UringKernel>(
        _ queue: QueueID,
        _ commands: inout KernelRing<Kernel>,
        address: (Tag) -> UInt64
    ) {
        for index in 0..<depth {
            let tag = Tag(UInt16(index))
            unsafe elements[index] = ublk_batch_element(
                tag: tag.rawValue,
                buf_index: 0,
                result: 0,
                addr: address(tag)
            )
        }
        let sqe = unsafe commands.submission()
        unsafe uring_prep_ublk_batch(
            sqe,
            UBLK_IO_PREP_IO_CMDS,
            queue.rawValue,
            elements,
            UInt16(depth)
        )
        unsafe sqe.pointee.user_data = UserData(.prepared).rawValue
        fetch(queue, &commands)
    }

    private func fetch<Kernel: UringKernel>(
        _ queue: QueueID,
        _ commands: inout KernelRing<Kernel>
    ) {
        let sqe = unsafe commands.submission()
        unsafe uring_prep_ublk_batch_fetch(sqe, queue.rawValue, 0)
        unsafe sqe.pointee.user_data = UserData(.tags).rawValue
    }

    /// Adds a result to those of the next command, which is made here when there is no more room beside it.
    mutating func commit<Kernel: UringKernel>(
        _ tag: Tag,
        result: Int32,
        address: UInt64,
        _ queue: QueueID,
        _ commands: inout KernelRing<Kernel>
    ) {
        precondition(tag.index < depth)
        unsafe owners[tag.index] = Owner.driver
        unsafe elements[first + waiting] = ublk_batch_element(
            tag: tag.rawValue,
            buf_index: 0,
            result: result,
            addr: address
        )
        waiting += 1
        if first + waiting == depth { sendCommits(queue, &commands) }
    }

    /// Makes the command for the results that wait.
    ///
    /// - Returns: how many completions a wait is to wait for: those of the commands that carry results come at once,
    ///   and say nothing that the queue waits for.
    @discardableResult @inline(never)
    mutating func sendCommits<Kernel: UringKernel>(
        _ queue: QueueID,
        _ commands: inout KernelRing<Kernel>
    ) -> UInt32 {
        if waiting > 0 {
            let sqe = unsafe commands.submission()
            unsafe uring_prep_ublk_batch(
                sqe,
                UBLK_IO_COMMIT_IO_CMDS,
                queue.rawValue,
                elements + first,
                UInt16(waiting)
            )
            unsafe sqe.pointee.user_data =
                UserData(.committed, tag: Tag(UInt16(waiting))).rawValue
            first = (first + waiting) % depth
            waiting = 0
            unanswered += 1
        }
        return isGone ? 1 : 1 + unanswered
    }

    // MARK: Completions

    /// The end of the command that gives all tags to the driver; when it refuses them, the other one ends, too.
    func prepared(_ result: Int32) {
        precondition(
            result == 0 || Self.isAbort(result),
            "the driver does not take the tags: errno \(-result)"
        )
    }

    /// The driver has taken so many results.
    ///
    /// When it rejects one the request is lost until the device goes. That is a bug here.
    mutating func committed(_ count: Int, _ result: Int32) {
        precondition(
            Int(result) == count * MemoryLayout<ublk_batch_element>.stride,
            "the driver rejected one of \(count) results: \(result)"
        )
        unanswered -= 1
    }

    /// A buffer of tags has come, or the command that brings them has ended.
    ///
    /// - Parameter flags: of the completion.
    @inline(never)
    mutating func came<Kernel: UringKernel>(
        _ result: Int32,
        flags: UInt32,
        _ queue: QueueID,
        _ commands: inout KernelRing<Kernel>
    ) {
        if flags & URING_CQE_BUFFER != 0 {
            buffer = Int(uring_cqe_buffer(flags))
            left = Int(max(result, 0)) / MemoryLayout<UInt16>.stride
            precondition(buffer < room.buffers && left <= room.tagsEach)
            position = buffer * room.tagsEach
            if left == 0 { give(buffer) }
        }
        guard flags & URING_CQE_MORE == 0 else { return }
        if Self.isAbort(result) {
            isGone = true
            return
        }
        // All buffers were full, or the kernel had no memory; the tags wait in the driver.
        precondition(
            result >= 0 || result == -Errno.noBufferSpace.rawValue
                || result == -Errno.noMemory.rawValue,
            "the driver brings no tags: errno \(-result)"
        )
        fetch(queue, &commands)
    }

    private static func isAbort(_ result: Int32) -> Bool {
        result == -Errno.operationNotSupportedByDevice.rawValue
            || result == -Errno.canceled.rawValue
    }

    /// The next tag of the buffer that came last.
    mutating func nextTag() -> Tag? {
        guard left > 0 else { return nil }
        let tag = unsafe tags[position]
        precondition(Int(tag) < depth, "the driver brings a tag that is none: \(tag)")
        position += 1
        left -= 1
        if left == 0 { give(buffer) }
        unsafe owners[Int(tag)] = Owner.server
        return Tag(tag)
    }

    /// The next tag that is gone, of a device that is going.
    @inline(never)
    mutating func nextAborted() -> Tag? {
        guard isGone, waiting == 0, unanswered == 0 else { return nil }
        for index in 0..<depth {
            guard unsafe owners[index] == Owner.driver else { continue }
            unsafe owners[index] = Owner.nobody
            return Tag(UInt16(index))
        }
        return nil
    }
}
