import CLua
import Synchronization

/// The sets of ranges of a device, and the reclaiming of what readers may still see (QSBR, as in userspace RCU).
///
/// Owner: the device; threads: all of its queues. Readers never lock. A queue announces the epoch in which it goes
/// online; every replaced directory carries the epoch that began with its replacement. It is freed, with the leaves
/// that went with it, once no queue is online with an older epoch: such a queue went online before the replacement
/// and may hold it.
///
/// Memory order. A reader stores `seen`, then loads `directory`; an editor stores `directory`, then loads `seen`. One
/// of the two must see the other's store, which only sequential consistency gives; so these four are sequentially
/// consistent (the loads cost nothing on x86 and an ldar on arm64). Going offline is a release that the editor's load
/// acquires: all looks at the directory and its leaves happen before they are freed.
@safe
struct RangeRegistry: Sendable {
    // Safety: made in init, freed by ``free()`` when no queue uses it any more; one reader a queue.
    private nonisolated(unsafe) let content: UnsafeMutablePointer<Content>

    // Safety: `queues` readers, each on its own cache line.
    @safe
    private struct Content: ~Copyable {
        let queues: Int
        let readers: UnsafeMutableRawPointer
        /// From 1.
        let epoch = Atomic<UInt64>(1)
        let growths = Atomic<UInt64>(0)
        let editing = Mutex(State())
    }

    private struct Reader: ~Copyable {
        /// The epoch when it went online; 0: it is offline.
        let seen = Atomic<UInt64>(0)
        /// Touched by its own thread only.
        var hasStarted = false
    }

    private static let lineBytes = 64

    /// What edits need; they exclude each other.
    struct State: ~Copyable {
        /// Some queue went online once, so sets may have readers at any time.
        var hasStarted = false
        /// In all sets.
        var intervalCount = 0
        var pool = RangeLeafPool()
        fileprivate var sets: [RangeSet] = []
        /// Newest first.
        fileprivate var retired: RangeDirectory?
    }

    /// - Parameter queues: how many threads will use it; each names itself by its index.
    init(queues: Int) {
        let readers = UnsafeMutableRawPointer.allocate(
            byteCount: queues * Self.lineBytes,
            alignment: Self.lineBytes
        )
        for queue in 0..<queues {
            unsafe (readers + queue * Self.lineBytes).bindMemory(to: Reader.self, capacity: 1)
                .initialize(to: Reader())
        }
        unsafe content = .allocate(capacity: 1)
        unsafe content.initialize(to: Content(queues: queues, readers: readers))
    }

    func free() {
        unsafe content.pointee.editing.withLock { state in
            state.free()
        }
        unsafe content.pointee.readers.deallocate()
        unsafe content.deinitialize(count: 1)
        unsafe content.deallocate()
    }

    @inline(__always)
    private func reader(_ queue: Int) -> UnsafeMutablePointer<Reader> {
        unsafe (content.pointee.readers + queue &* Self.lineBytes)
            .assumingMemoryBound(to: Reader.self)
    }

    // MARK: Readers

    /// The queue's thread may look at sets from now on: after each wait.
    @inline(__always)
    func online(_ queue: Int) {
        guard unsafe content.pointee.queues != 1, unsafe queue < content.pointee.queues else {
            return
        }
        let reader = unsafe reader(queue)
        if unsafe !reader.pointee.hasStarted {
            // Once a queue: waits for an edit in place to end, and none begins afterwards.
            unsafe content.pointee.editing.withLock { $0.hasStarted = true }
            unsafe reader.pointee.hasStarted = true
        }
        let epoch = unsafe content.pointee.epoch.load(ordering: .sequentiallyConsistent)
        unsafe reader.pointee.seen.store(epoch, ordering: .sequentiallyConsistent)
    }

    /// It looks at none any more: before each wait, as a queue that sleeps must not hold back what is to be freed.
    @inline(__always)
    func offline(_ queue: Int) {
        guard unsafe content.pointee.queues != 1, unsafe queue < content.pointee.queues else {
            return
        }
        unsafe reader(queue).pointee.seen.store(0, ordering: .releasing)
    }

    /// Counts edits after which a set reaches further to either side than before.
    ///
    /// While it stands still, every set lies within the hull it had, so what was known to miss all hulls still does.
    @inline(__always)
    var growths: UInt64 { unsafe content.pointee.growths.load(ordering: .acquiring) }

    // MARK: Editors

    @inline(__always)
    func edit<Result>(_ body: (inout State) -> Result) -> Result {
        unsafe content.pointee.editing.withLock { body(&$0) }
    }

    /// Nobody can be looking at a set: it may be edited in place.
    func isExclusive(_ state: borrowing State) -> Bool {
        unsafe content.pointee.queues == 1 || !state.hasStarted
    }

    /// After a set that has grown is published: who sees the count sees the set.
    func countGrowth() { unsafe content.pointee.growths.wrappingAdd(1, ordering: .releasing) }

    /// A new set, empty; nil: there are too many.
    func makeSet(_ name: String = "") -> RangeSet? {
        edit { state in
            guard state.sets.count < US_OBJECTS_MAX else { return nil }
            let set = RangeSet(in: self, name)
            state.sets.append(set)
            return set
        }
    }

    /// Readers see `new` from now on in place of `old`, which is freed once nobody can see it.
    func retire(_ old: RangeDirectory, _ state: inout State) {
        if isExclusive(state) { return old.free(&state.pool) }
        old.retiredAt = unsafe content.pointee.epoch.wrappingAdd(
            1,
            ordering: .sequentiallyConsistent
        ).newValue
        old.next = state.retired
        state.retired = old
        state.reclaim(before: oldestReader())
    }

    /// The oldest epoch that an online queue may still be in.
    private func oldestReader() -> UInt64 {
        var oldest = UInt64.max
        for queue in 0..<(unsafe content.pointee.queues) {
            let seen = unsafe reader(queue).pointee.seen.load(ordering: .sequentiallyConsistent)
            if seen != 0, seen < oldest { oldest = seen }
        }
        return oldest
    }
}

extension RangeRegistry.State {
    /// Frees what no reader of that epoch or a later one can see.
    ///
    /// The list is newest first, so everything from the first free one on is free.
    fileprivate mutating func reclaim(before oldest: UInt64) {
        var last: RangeDirectory?
        var next = retired
        while let directory = next, directory.retiredAt > oldest {
            last = directory
            next = directory.next
        }
        if let last { last.next = nil } else { retired = nil }
        free(next)
    }

    private mutating func free(_ list: RangeDirectory?) {
        var next = list
        while let directory = next {
            next = directory.next
            directory.free(&pool)
        }
    }

    fileprivate mutating func free() {
        free(retired)
        retired = nil
        for set in sets { set.free(&pool) }
        sets = []
    }
}
