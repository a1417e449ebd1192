import CUring
import SystemPackage

@testable import UblkScript

/// A driver with UBLK_F_BATCH_IO: one command for many tags.
extension FakeUblk {
    /// What is there beside the tags.
    @safe
    struct Batch {
        // Safety: the ring's memory is the test's TagBuffers, which live as long as the transport.
        private var ring: UnsafeMutableRawPointer?
        private(set) var entries: UInt32 = 0
        private var head: UInt16 = 0
        /// The command that brings tags.
        var fetch: UInt64?
        /// Tags that it has not brought.
        var tags: [UInt16] = []
        /// Number of commands that were taken, by their kind.
        var prepares = 0
        var fetches = 0
        /// How many results came with each.
        var commits: [Int] = []
        /// Tags that a completion brings at most.
        var tagsMax = 128
        /// What the next commands that carry results take: so many of them.
        var takes: [Int] = []

        mutating func register(_ memory: UnsafeMutableRawPointer, _ entries: UInt32) -> Int32 {
            unsafe ring = memory
            self.entries = entries
            return 0
        }

        /// By the layout of the kernel's interface: the tail is in the reserved field of the first entry.
        mutating func nextBuffer() -> (start: UInt, bytes: UInt32, id: UInt16)? {
            guard let ring = unsafe ring else { return nil }
            guard unsafe ring.load(fromByteOffset: 14, as: UInt16.self) != head else { return nil }
            let entry = unsafe ring + Int(UInt32(head) & (entries - 1)) * 16
            head &+= 1
            return unsafe (
                entry.load(as: UInt.self), entry.load(fromByteOffset: 8, as: UInt32.self),
                entry.load(fromByteOffset: 12, as: UInt16.self)
            )
        }
    }

    /// Brings the requests that wait, as the driver does in its task work.
    func bringTags() {
        while let fetch = batch.fetch, !batch.tags.isEmpty {
            guard let buffer = batch.nextBuffer() else {
                return endFetch(-Errno.noBufferSpace.rawValue)
            }
            let count = min(batch.tags.count, Int(buffer.bytes) / 2, batch.tagsMax)
            for (index, tag) in batch.tags.prefix(count).enumerated() {
                let place = unsafe UnsafeMutableRawPointer(bitPattern: buffer.start)
                unsafe place?.storeBytes(of: tag, toByteOffset: 2 * index, as: UInt16.self)
            }
            batch.tags.removeFirst(count)
            complete(fetch, Int32(2 * count), flags: UInt32(buffer.id) << 16 | 3)
        }
    }

    /// The command that brings tags ends.
    func endFetch(_ result: Int32) {
        guard let fetch = batch.fetch else { return }
        batch.fetch = nil
        complete(fetch, result)
    }

    /// One command, by the layout of the kernel's interface.
    func takeBatch(_ code: UInt32, _ sqe: UnsafeRawPointer, _ userData: UInt64) {
        let command = unsafe sqe.load(fromByteOffset: 48, as: ublk_batch_io.self)
        guard command.q_id == queue.rawValue, command.reserved == 0, command.reserved2 == 0 else {
            return complete(userData, -Errno.invalidArgument.rawValue)
        }
        if code == UBLK_IO_FETCH_IO_CMDS {
            let flags = unsafe sqe.load(fromByteOffset: 1, as: UInt8.self)
            let isMultishot = unsafe sqe.load(fromByteOffset: 28, as: UInt32.self) == 2
            // IOSQE_FIXED_FILE, IOSQE_BUFFER_SELECT
            guard flags == 1 | 32, isMultishot, command.elem_bytes == 2, command.flags == 0,
                batch.fetch == nil, unsafe sqe.load(fromByteOffset: 40, as: UInt16.self) == 0
            else { return complete(userData, -Errno.invalidArgument.rawValue) }
            batch.fetch = userData
            batch.fetches += 1
            if isGoing { return endFetch(-Errno.operationNotSupportedByDevice.rawValue) }
            return bringTags()
        }
        guard command.elem_bytes == 16, command.flags == 2,
            let start = unsafe UnsafeRawPointer(
                bitPattern: sqe.load(fromByteOffset: 16, as: UInt.self)
            )
        else { return complete(userData, -Errno.invalidArgument.rawValue) }
        var taken = 0
        let most =
            code == UBLK_IO_COMMIT_IO_CMDS && !batch.takes.isEmpty
            ? batch.takes.removeFirst() : .max
        for index in 0..<Int(command.nr_elem) {
            let element = unsafe start.load(
                fromByteOffset: 16 * index,
                as: ublk_batch_element.self
            )
            guard index < most, accepts(element, code) else { break }
            taken += 1
        }
        guard code == UBLK_IO_COMMIT_IO_CMDS else {
            batch.prepares += 1
            let isWhole = taken == Int(command.nr_elem)
            return complete(userData, isWhole ? 0 : -Errno.invalidArgument.rawValue)
        }
        batch.commits.append(taken)
        complete(userData, taken > 0 ? Int32(16 * taken) : -Errno.resourceBusy.rawValue)
    }

    private func accepts(_ element: ublk_batch_element, _ code: UInt32) -> Bool {
        switch (code, slots[element.tag] ?? .none) {
        case (UBLK_IO_PREP_IO_CMDS, .none): buffers[element.tag] = element.addr
        case (UBLK_IO_COMMIT_IO_CMDS, .server):
            guard buffers[element.tag] == element.addr else { return false }
            commits.append(Commit(tag: element.tag, result: element.result))
        default: return false
        }
        slots[element.tag] = isGoing ? .gone : .parked(0)
        return element.addr != 0
    }
}
