import CLua
import Synchronization

/// The sets of ranges of a device, and the deferred freeing of what readers may still see (quiescent-state-based
/// reclamation, QSBR, as in userspace RCU).
///
/// Owned by the device's ``SharedObjects``; used by the threads of all queues. Readers never lock. A queue announces
/// the epoch in which it goes online; a replaced directory is stamped with the epoch that began with its replacement.
/// The directory and its dead leaves are freed once no queue is online with an older epoch, since such a queue went
/// online before the replacement and may still read them.
///
/// Memory order. A reader stores `seen`, then loads `directory`; an editor stores `directory`, then loads `seen`. One
/// of the two must see the other's store, which only sequential consistency gives; so these four are sequentially
/// consistent (the loads cost nothing on x86 and an ldar on arm64). Going offline is a release that the editor's load
/// acquires: all reads of the directory and its leaves happen before they are freed.
@safe
struct RangeRegistry: Sendable {
    // Safety: made in init, freed by ``free()`` when no queue uses it any more.
    private nonisolated(unsafe) let content: UnsafeMutablePointer<Content>

    // Safety: `queues` readers, each on its own cache line.
    @safe
    private struct Content: ~Copyable {
        let queues: Int
        let readers: UnsafeMutableRawPointer
        /// The current epoch, from 1.
        let epoch = Atomic<UInt64>(1)
        let growths = Atomic<UInt64>(0)
        let editing = Mutex(State())
    }

    private struct Reader: ~Copyable {
        /// The epoch in which the queue went online; 0 while it is offline.
        let seen = Atomic<UInt64>(0)
        /// The queue has been online before; used by its own thread only.
        var hasStarted = false
    }

    private static let lineBytes = 64

    /// What edits work on, under the registry's lock.
    struct State: ~Copyable {
        /// Some queue has been online, so from now on sets may have readers.
        var hasStarted = false
        /// Number of intervals in all sets.
        var intervalCount = 0
        var pool = RangeLeafPool()
        /// Has each edit, for the next server of the device; nil: there is none to come.
        var journal: RangeJournal?
        fileprivate var sets: [RangeSet] = []
        /// The list of retired directories, newest first.
        fileprivate var retired: RangeDirectory?
    }

    /// - Parameter queues: the number of queue threads that will read; each is identified by its index.
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

    /// Allows the queue's thread to read sets; called after each wait.
    @inline(__always)
    func online(_ queue: Int) {
        guard unsafe content.pointee.queues != 1, unsafe queue < content.pointee.queues else {
            return
        }
        let reader = unsafe reader(queue)
        if unsafe !reader.pointee.hasStarted {
            // The first time, the lock waits for an edit in place to end; none begins afterwards.
            unsafe content.pointee.editing.withLock { $0.hasStarted = true }
            unsafe reader.pointee.hasStarted = true
        }
        let epoch = unsafe content.pointee.epoch.load(ordering: .sequentiallyConsistent)
        unsafe reader.pointee.seen.store(epoch, ordering: .sequentiallyConsistent)
    }

    /// Ends the queue's reading; called before each wait, as a queue that sleeps must not hold up freeing.
    @inline(__always)
    func offline(_ queue: Int) {
        guard unsafe content.pointee.queues != 1, unsafe queue < content.pointee.queues else {
            return
        }
        unsafe reader(queue).pointee.seen.store(0, ordering: .releasing)
    }

    /// Number of edits that extended the hull of a set.
    ///
    /// While it does not change, every set stays within the hull it had, so an IO that missed all hulls still does.
    @inline(__always)
    var growths: UInt64 { unsafe content.pointee.growths.load(ordering: .acquiring) }

    // MARK: Editors

    @inline(__always)
    func edit<Result>(_ body: (inout State) -> Result) -> Result {
        unsafe content.pointee.editing.withLock { body(&$0) }
    }

    /// True when there can be no readers, so that sets may be edited in place.
    func isExclusive(_ state: borrowing State) -> Bool {
        unsafe content.pointee.queues == 1 || !state.hasStarted
    }

    /// Counts a growth; call after the grown set is published, so that whoever sees the count sees the set.
    func countGrowth() { unsafe content.pointee.growths.wrappingAdd(1, ordering: .releasing) }

    /// Makes an empty set; nil when there are too many.
    func makeSet(_ name: String = "", of owner: SharedObjects.Owner? = nil) -> RangeSet? {
        edit { state in
            guard state.sets.count < US_OBJECTS_MAX else { return nil }
            let number = UInt32(state.sets.count)
            let set = RangeSet(in: self, name, owner, number: number)
            state.sets.append(set)
            state.journal?.append(owner, name, number)
            return set
        }
    }

    /// Frees a directory that has been replaced, once no reader can see it.
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

    /// The oldest epoch in which an online queue went online; `.max` when none is online.
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
    /// Notes an edit that was done.
    mutating func note(_ record: RangeJournal.Record) {
        guard let journal else { return }
        if journal.isWasteful(records: intervalCount + 2 * sets.count) { rewrite(journal) }
        self.journal?.append(record)
    }

    /// Begins another journal, with the present intervals.
    ///
    /// The record that is to be noted may be among them already: adding or removing it again changes nothing.
    private mutating func rewrite(_ old: RangeJournal) {
        guard let new = old.successor() else { return }
        for set in sets { set.write(to: new) }
        if let new = new.inPlace(of: old) { journal = new }
    }

    /// Frees the directories that were retired in the epoch `oldest` or before.
    ///
    /// The list is newest first, so all that follow the first such directory can be freed with it.
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
