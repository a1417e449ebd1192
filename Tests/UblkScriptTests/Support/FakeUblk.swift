import CUring
import Glibc
import SystemPackage

@testable import UblkScript

/// A kernel with a ublk driver in it, as one queue sees them: a ring, and the descriptors of `/dev/ublkcN`.
///
/// What the driver would refuse is answered as it answers. Waits do what the test has put into ``waits``, one each;
/// a wait with nothing to come stops the test. One thread.
@safe
final class FakeUblk: DriverKernel {
    // Safety: `counts` has four numbers, `sqes` and `cqes` as many entries as the ring; made by open, freed in deinit.
    private nonisolated(unsafe) let counts = UnsafeMutablePointer<UInt32>.allocate(capacity: 4)
    private nonisolated(unsafe) var sqes: UnsafeMutablePointer<uring_sqe>?
    private nonisolated(unsafe) var cqes: UnsafeMutablePointer<io_uring_cqe>?
    private var entries: UInt32 = 0

    let queue: QueueID
    /// The device: its descriptors.
    let characterFD: Int32
    /// An eventfd of the queue's.
    let wakeupFD: Int32

    /// What is answered to a ring with some of these flags.
    var refusal: (flags: UInt32, errno: Errno)?
    /// Flags of each ring that was asked for.
    private(set) var asked: [UInt32] = []
    private(set) var isClosed = false
    /// The next calls end with these instead of doing anything.
    var interruptions: [Errno] = []
    /// So many entries are taken by one call.
    var takesAtOnce = Int.max
    let mode: DataMode
    let descriptorBytes: Int
    /// Commands take no address: the server copies data itself.
    var isUserCopy: Bool { mode.serverCopies }
    /// Size of the ring's table of buffers.
    private(set) var buffersMade: UInt32?
    /// Reads and writes of the pages of requests, as words: `read 3 0+4096`.
    private(set) var onPages: [String] = []
    /// Data of requests, by tag.
    var data: [UInt16: [UInt8]] = [:]
    /// What comes of the next copies: so many bytes at most, 0 or a negative errno.
    var copyResults: [Int] = []
    /// The copies, as words: `pull 3 0+4096`.
    var copies: [String] = []
    /// What happens in each of the next waits.
    var waits: [() -> Void] = []

    enum Slot {
        case none
        case parked(UInt64)
        /// A write that the server has been told of, and whose data it is to ask for.
        case announced
        /// The same once it has, and the data has not come yet.
        case asked(UInt64)
        case server
        case gone
    }
    var slots: [UInt16: Slot] = [:]
    private(set) var isGoing = false
    /// How many tags have one command, where they have.
    var batch = Batch()
    /// Addresses that came with the fetches, by tag.
    var buffers: [UInt16: UInt64] = [:]
    /// Results of commits, in order.
    var commits: [Commit] = []
    struct Commit: Equatable {
        let tag: UInt16
        let result: Int32
    }
    /// File operations under way: what they are, and their user data.
    private(set) var operations: [(code: UInt8, file: Int32, userData: UInt64)] = []
    /// The address of each file operation on memory.
    private(set) var places: [UInt64] = []
    private var wakeup: (userData: UInt64, address: UInt)?
    private(set) var files: [Int32] = []

    init(queue: UInt16 = 1, mode: DataMode = .copy, descriptorBytes: Int = 24) throws {
        self.queue = QueueID(queue)
        self.mode = mode
        self.descriptorBytes = descriptorBytes
        stride = SystemPage.roundUp(Int(UBLK_MAX_QUEUE_DEPTH) * descriptorBytes)
        characterFD = unsafe sys_memory_file("fake-ublk")
        wakeupFD = sys_eventfd()
        guard characterFD >= 0, wakeupFD >= 0,
            ftruncate(characterFD, off_t((Int(queue) + 1) * stride)) == 0
        else { throw Errno(rawValue: Glibc.errno) }
        unsafe counts.initialize(repeating: 0, count: 4)
    }

    deinit {
        Glibc.close(characterFD)
        Glibc.close(wakeupFD)
        unsafe counts.deallocate()
        unsafe sqes?.deallocate()
        unsafe cqes?.deallocate()
    }

    /// From one queue's descriptors to the next one's.
    private let stride: Int

    // MARK: The driver

    /// A request comes in the tag.
    func arrive(
        _ tag: UInt16,
        _ op: IOOp,
        sector: UInt64 = 0,
        sectors: UInt32 = 8,
        flags: IOFlags = [],
        address: UInt64 = 0
    ) {
        guard case .parked(let userData) = slots[tag] else { preconditionFailure("no such fetch") }
        var desc = ublk_io_desc(
            op_flags: UInt32(op.rawValue) | flags.rawValue,
            nr_sectors: sectors,
            start_sector: sector,
            addr: address
        )
        let size = MemoryLayout<ublk_io_desc>.stride
        let place = queue.index * stride + Int(tag) * descriptorBytes
        precondition(unsafe pwrite(characterFD, &desc, size, off_t(place)) == size)
        if mode == .needGetData, op == .write {
            slots[tag] = .announced
            return complete(userData, Int32(UBLK_IO_RES_NEED_GET_DATA))
        }
        slots[tag] = .server
        if isUserCopy, data[tag] == nil {
            data[tag] = Array(repeating: 0, count: Int(sectors) * 512)
        }
        mode.isBatched ? batch.tags.append(tag) : complete(userData, 0)
    }

    /// The data that the server has asked for is there; with ``givesDataLater`` the driver has waited for this.
    func giveData(_ tag: UInt16) {
        guard case .asked(let userData) = slots[tag], let address = buffers[tag] else {
            preconditionFailure("nobody asked for the data")
        }
        let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
        unsafe place?.copyMemory(from: data[tag] ?? [], byteCount: data[tag]?.count ?? 0)
        slots[tag] = .server
        complete(userData, 0)
    }

    /// As 6.12, which parks NEED_GET_DATA; newer drivers copy at once.
    var givesDataLater = false

    /// The device goes away: what is parked ends so, and what is committed from now on.
    ///
    /// - Parameter quiesced: the latter does not, as after a QUIESCE_DEV.
    func goAway(_ errno: Errno = .operationNotSupportedByDevice, quiesced: Bool = false) {
        isGoing = !quiesced
        for (tag, slot) in slots.sorted(by: { $0.key < $1.key }) {
            let userData: UInt64
            switch slot {
            case .parked(let command), .asked(let command): userData = command
            default: continue
            }
            slots[tag] = .gone
            if !mode.isBatched { complete(userData, -errno.rawValue) }
        }
        if mode.isBatched { endFetch(-errno.rawValue) }
    }

    /// A parked command ends with something else.
    func answer(_ tag: UInt16, _ result: Int32) {
        guard case .parked(let userData) = slots[tag] else { preconditionFailure("no such fetch") }
        complete(userData, result)
    }

    /// The oldest file operation is over.
    func finishOperation(_ result: Int32) { complete(operations.removeFirst().userData, result) }

    /// Completions that nobody has taken yet.
    var completions: UInt32 { unsafe counts[3] &- counts[2] }

    var parkedTags: [UInt16] {
        slots.filter { if case .parked = $0.value { true } else { false } }.keys.sorted()
    }

    /// Tags whose pages are in the ring's table because the server has said so.
    private(set) var lent: Set<UInt16> = []
    /// What is answered to the next wishes for pages, instead of lending them.
    var loanRefusals: [Errno] = []

    /// - Returns: 0 or a negative errno.
    private func lend(_ code: UInt32, _ cmd: ublk_io_cmd) -> Int32 {
        guard mode == .zeroCopy, case .server = slots[cmd.tag], cmd.addr == UInt64(cmd.tag),
            UInt32(cmd.tag) < buffersMade ?? 0
        else { return -Errno.invalidArgument.rawValue }
        guard code == UBLK_IO_REGISTER_IO_BUF else {
            return lent.remove(cmd.tag) == nil ? -Errno.invalidArgument.rawValue : 0
        }
        guard loanRefusals.isEmpty else { return -loanRefusals.removeFirst().rawValue }
        return lent.insert(cmd.tag).inserted ? 0 : -Errno.resourceBusy.rawValue
    }

    private func command(_ code: UInt32, _ cmd: ublk_io_cmd, _ userData: UInt64) {
        let slot = slots[cmd.tag] ?? .none
        // ublk_check_fetch_buf; an address of a FETCH would do no harm with NEED_GET_DATA, but nobody needs it.
        let needsNone = isUserCopy || mode == .needGetData && code == UBLK_IO_FETCH_REQ
        guard (cmd.addr == 0) == needsNone else {
            return complete(userData, -Errno.invalidArgument.rawValue)
        }
        switch (code, slot) {
        case (UBLK_IO_FETCH_REQ, .none): buffers[cmd.tag] = cmd.addr
        case (UBLK_IO_NEED_GET_DATA, .announced):
            buffers[cmd.tag] = cmd.addr
            slots[cmd.tag] = .asked(userData)
            return givesDataLater ? () : giveData(cmd.tag)
        case (_, .announced), (_, .asked), (UBLK_IO_NEED_GET_DATA, _):
            return complete(userData, -Errno.invalidArgument.rawValue)
        case (UBLK_IO_COMMIT_AND_FETCH_REQ, .server):
            guard mode == .needGetData || buffers[cmd.tag] == cmd.addr else { fallthrough }
            precondition(!lent.contains(cmd.tag), "the request never ends: its pages are lent")
            commits.append(Commit(tag: cmd.tag, result: cmd.result))
        default: return complete(userData, -Errno.resourceBusy.rawValue)
        }
        guard cmd.q_id == queue.rawValue else {
            return complete(userData, -Errno.invalidArgument.rawValue)
        }
        slots[cmd.tag] = isGoing ? .gone : .parked(userData)
        if isGoing { complete(userData, -Errno.operationNotSupportedByDevice.rawValue) }
    }

    // MARK: The ring

    func open(_ ring: UnsafeMutablePointer<io_uring>, entries: UInt32, flags: UInt32) -> Int32 {
        asked.append(flags)
        if let refusal, flags & refusal.flags != 0 { return -refusal.errno.rawValue }
        self.entries = 1
        while self.entries < entries { self.entries *= 2 }
        let count = Int(self.entries)
        let sqes = UnsafeMutablePointer<uring_sqe>.allocate(capacity: count)
        let cqes = UnsafeMutablePointer<io_uring_cqe>.allocate(capacity: 2 * count)
        unsafe memset(sqes, 0, count * MemoryLayout<uring_sqe>.stride)
        unsafe (self.sqes, self.cqes) = (sqes, cqes)
        unsafe ring.pointee.flags = flags
        unsafe ring.pointee.sq.khead = counts
        unsafe ring.pointee.sq.ktail = counts + 1
        unsafe ring.pointee.sq.sqes = sqes
        unsafe ring.pointee.sq.ring_entries = self.entries
        unsafe ring.pointee.sq.ring_mask = self.entries - 1
        unsafe ring.pointee.cq.khead = counts + 2
        unsafe ring.pointee.cq.ktail = counts + 3
        unsafe ring.pointee.cq.cqes = cqes
        unsafe ring.pointee.cq.ring_entries = 2 * self.entries
        unsafe ring.pointee.cq.ring_mask = 2 * self.entries - 1
        return 0
    }

    func close(_ ring: UnsafeMutablePointer<io_uring>) { isClosed = true }

    func register(_ ring: UnsafeMutablePointer<io_uring>, files: [Int32]) -> Int32 {
        self.files = files
        return 0
    }

    func register(_ ring: UnsafeMutablePointer<io_uring>, emptyBuffers: UInt32) -> Int32 {
        buffersMade = emptyBuffers
        return 0
    }

    func submit(_ ring: UnsafeMutablePointer<io_uring>) -> Int32 {
        if !interruptions.isEmpty { return -interruptions.removeFirst().rawValue }
        // What liburing does before it enters: everything that was filled is handed over.
        unsafe counts[1] = ring.pointee.sq.sqe_tail
        var taken: Int32 = 0
        while unsafe counts[0] != counts[1], Int(taken) < takesAtOnce, let sqes = unsafe sqes {
            unsafe take(UnsafeRawPointer(sqes + Int(counts[0] & (entries - 1))))
            unsafe counts[0] &+= 1
            taken += 1
        }
        return taken
    }

    func register(
        _ ring: UnsafeMutablePointer<io_uring>,
        bufferRing: UnsafeMutableRawPointer,
        entries: UInt32
    ) -> Int32 {
        unsafe batch.register(bufferRing, entries)
    }

    func submitAndWait(
        _ ring: UnsafeMutablePointer<io_uring>,
        completions wanted: UInt32,
        nanoseconds: UInt64?
    ) -> Int32 {
        let taken = unsafe submit(ring)
        guard taken >= 0 else { return taken }
        hearWakeup()
        if completions < wanted, !waits.isEmpty { waits.removeFirst()() }
        bringTags()
        hearWakeup()
        guard completions < wanted else { return taken }
        guard let nanoseconds else { preconditionFailure("a wait for ever") }
        usleep(UInt32(min(nanoseconds / 1000 + 1, 1000)))
        return -62  // ETIME
    }

    /// One entry, by the layout of the kernel's interface.
    private func take(_ sqe: UnsafeRawPointer) {
        let code = unsafe sqe.load(fromByteOffset: 0, as: UInt8.self)
        let isFixed = unsafe sqe.load(fromByteOffset: 1, as: UInt8.self) & 1 != 0
        let fd = unsafe sqe.load(fromByteOffset: 4, as: Int32.self)
        let userData = unsafe sqe.load(fromByteOffset: 32, as: UInt64.self)
        switch code {
        case 46 where isFixed && fd == 0:  // IORING_OP_URING_CMD
            let number = unsafe sqe.load(fromByteOffset: 8, as: UInt32.self)
            let cmd = unsafe sqe.load(fromByteOffset: 48, as: ublk_io_cmd.self)
            if mode.isBatched { return unsafe takeBatch(number, sqe, userData) }
            let registration = unsafe sqe.load(fromByteOffset: 16, as: UInt64.self)
            // The tag's own place in the table; what cannot be registered comes nevertheless.
            if number == UBLK_IO_REGISTER_IO_BUF || number == UBLK_IO_UNREGISTER_IO_BUF {
                let result = lend(number, cmd)
                let flags = unsafe sqe.load(fromByteOffset: 1, as: UInt8.self)
                // IOSQE_CQE_SKIP_SUCCESS
                return result < 0 || flags & 64 == 0 ? complete(userData, result) : ()
            }
            guard registration == (mode == .autoBuf ? 1 << 16 | UInt64(cmd.tag) : 0) else {
                return complete(userData, -Errno.invalidArgument.rawValue)
            }
            command(number, cmd, userData)
        case 22 where !isFixed && fd == wakeupFD:  // IORING_OP_READ
            precondition(wakeup == nil, "two reads of the eventfd")
            wakeup = (userData, unsafe sqe.load(fromByteOffset: 16, as: UInt.self))
        case 4 where isFixed, 5 where isFixed:  // IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED
            let index = unsafe sqe.load(fromByteOffset: 40, as: UInt16.self)
            let offset = unsafe sqe.load(fromByteOffset: 16, as: UInt64.self)
            let length = unsafe sqe.load(fromByteOffset: 24, as: UInt32.self)
            precondition(UInt32(index) < buffersMade ?? 0, "no such buffer")
            guard mode == .autoBuf || lent.contains(index) else {
                return complete(userData, -Errno.badAddress.rawValue)
            }
            onPages.append("\(code == 4 ? "read" : "write") \(index) \(offset)+\(length)")
            operations.append((code, files[Int(fd)], userData))
        case 3, 17, 22,
            23 where isFixed && files.indices.contains(Int(fd)):
            operations.append((code, files[Int(fd)], userData))
            places.append(unsafe sqe.load(fromByteOffset: 16, as: UInt64.self))
        default: complete(userData, -Errno.invalidArgument.rawValue)
        }
    }

    private func hearWakeup() {
        var polled = pollfd(fd: wakeupFD, events: Int16(POLLIN), revents: 0)
        guard let wakeup, unsafe poll(&polled, 1, 0) == 1 else { return }
        let place = unsafe UnsafeMutableRawPointer(bitPattern: wakeup.address)
        let count = unsafe Glibc.read(wakeupFD, place, 8)
        self.wakeup = nil
        complete(wakeup.userData, Int32(count))
    }

    func complete(_ userData: UInt64, _ result: Int32, flags: UInt32 = 0) {
        guard let cqes = unsafe cqes else { preconditionFailure("a completion without a ring") }
        precondition(completions < 2 * entries, "completions overflow")
        let cqe = unsafe cqes + Int(counts[3] & (2 * entries - 1))
        unsafe cqe.pointee.user_data = userData
        unsafe cqe.pointee.res = result
        unsafe cqe.pointee.flags = flags
        unsafe counts[3] &+= 1
    }
}
