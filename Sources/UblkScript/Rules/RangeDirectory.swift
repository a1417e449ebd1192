import Glibc

/// The intervals of a set in two levels: a directory of leaves.
///
/// Sorted, disjoint, not even adjacent; so both starts and ends ascend, and a search by end finds a place, first
/// among the leaves and then in one. Readers see it only complete. Several directories may name one leaf: the current
/// one and retired ones. nil stands for that of an empty set.
@safe
struct RangeDirectory: Equatable, @unchecked Sendable {
    // Safety: the head, then room for `capacity` entries; made here, freed by ``free(_:)``.
    private let head: UnsafeMutablePointer<Head>

    private struct Head {
        var count = 0
        var bytes: UInt64 = 0
        var leafCount = 0
        let capacity: Int
        var dead = 0..<0
        var retiredAt: UInt64 = 0
        var next: RangeDirectory?
    }

    struct Entry {
        /// Of the leaf's last interval: a search touches no leaf but the one that it ends in.
        var end: UInt64
        var leaf: RangeLeaf
    }

    /// Behind the last interval it is (leafCount, 0); never behind the last of a leaf.
    struct Place {
        var leaf: Int
        var index: Int

        static func < (left: Place, right: Place) -> Bool {
            left.leaf < right.leaf || (left.leaf == right.leaf && left.index < right.index)
        }
    }

    /// Empty; nil when there is no memory.
    init?(capacity: Int) {
        let bytes = MemoryLayout<Head>.stride + capacity * MemoryLayout<Entry>.stride
        guard let memory = unsafe malloc(bytes) else { return nil }
        unsafe head = memory.bindMemory(to: Head.self, capacity: 1)
        unsafe head.initialize(to: Head(capacity: capacity))
    }

    /// - Parameter address: of a directory that lives.
    @inline(__always)
    init(_ address: UnsafeMutableRawPointer) {
        unsafe head = address.assumingMemoryBound(to: Head.self)
    }

    @inline(__always)
    var address: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(head) }

    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.head == right.head }

    /// Intervals in all leaves.
    var count: Int {
        get { unsafe head.pointee.count }
        nonmutating set { unsafe head.pointee.count = newValue }
    }

    var bytes: UInt64 {
        get { unsafe head.pointee.bytes }
        nonmutating set { unsafe head.pointee.bytes = newValue }
    }

    @inline(__always)
    var leafCount: Int {
        get { unsafe head.pointee.leafCount }
        nonmutating set { unsafe head.pointee.leafCount = newValue }
    }

    /// Leaves.
    var capacity: Int { unsafe head.pointee.capacity }

    /// Set when it is replaced: the leaves that its successor does not name.
    var dead: Range<Int> {
        get { unsafe head.pointee.dead }
        nonmutating set { unsafe head.pointee.dead = newValue }
    }

    /// The epoch of its replacement.
    var retiredAt: UInt64 {
        get { unsafe head.pointee.retiredAt }
        nonmutating set { unsafe head.pointee.retiredAt = newValue }
    }

    /// In the list of retired ones.
    var next: RangeDirectory? {
        get { unsafe head.pointee.next }
        nonmutating set { unsafe head.pointee.next = newValue }
    }

    @inline(__always)
    var entries: UnsafeMutablePointer<Entry> {
        unsafe (UnsafeMutableRawPointer(head) + MemoryLayout<Head>.stride)
            .assumingMemoryBound(to: Entry.self)
    }

    @inline(__always)
    func leaf(_ index: Int) -> RangeLeaf { unsafe entries[index].leaf }

    /// Frees it with its dead leaves.
    func free(_ pool: inout RangeLeafPool) {
        for index in dead { pool.free(leaf(index)) }
        unsafe Glibc.free(head)
    }
}

// MARK: Searching

extension RangeDirectory {
    /// How many of the leading leaves end at offset or before.
    ///
    /// Few are counted, not halved: the processor does not wait for one comparison, or one cache line, to know the
    /// next.
    @inline(__always)
    private func endedLeaves(_ offset: UInt64) -> Int {
        let entries = unsafe entries
        var count = leafCount
        var first = 0
        while count > RangeLeaf.blockSpans {
            let half = count &>> 1
            first &+= unsafe entries[first &+ half &- 1].end <= offset ? half : 0
            count &-= half
        }
        var ended = first
        var index = 0
        while index < count {
            ended &+= unsafe entries[first &+ index].end <= offset ? 1 : 0
            index &+= 1
        }
        return ended
    }

    @inline(__always)
    private static func ended(
        _ marks: UnsafePointer<UInt64>,
        _ count: Int,
        _ offset: UInt64
    ) -> Int {
        var ended = 0
        var index = 0
        while index < count {
            ended &+= unsafe marks[index] <= offset ? 1 : 0
            index &+= 1
        }
        return ended
    }

    @inline(__always)
    private static func ended(
        _ spans: UnsafePointer<RangeSpan>,
        _ count: Int,
        _ offset: UInt64
    ) -> Int {
        var ended = 0
        var index = 0
        while index < count {
            ended &+= unsafe spans[index].end <= offset ? 1 : 0
            index &+= 1
        }
        return ended
    }

    /// The first interval that ends after offset; behind the last when there is none.
    @inline(__always)
    func firstEndingAfter(_ offset: UInt64) -> Place {
        let number = endedLeaves(offset)
        guard number < leafCount else { return Place(leaf: number, index: 0) }
        let leaf = leaf(number)
        // The leaf's last ends after it, so one does in the block that is found.
        let blocks = (leaf.count &+ (RangeLeaf.blockSpans &- 1)) &>> RangeLeaf.blockShift
        let first = unsafe Self.ended(leaf.marks, blocks, offset) &* RangeLeaf.blockSpans
        let rest = min(leaf.count &- first, RangeLeaf.blockSpans)
        return Place(
            leaf: number,
            index: unsafe first &+ Self.ended(leaf.spans + first, rest, offset)
        )
    }

    @inline(__always)
    func span(_ place: Place) -> RangeSpan { unsafe leaf(place.leaf).spans[place.index] }

    /// The first interval that starts at offset or after it: the first that ends after it, or its successor.
    func firstStartingFrom(_ offset: UInt64) -> Place {
        let place = firstEndingAfter(offset)
        guard place.leaf < leafCount, span(place).start < offset else { return place }
        if place.index + 1 == leaf(place.leaf).count {
            return Place(leaf: place.leaf + 1, index: 0)
        }
        return Place(leaf: place.leaf, index: place.index + 1)
    }

    /// The last interval in front of a place that is not the first.
    func spanBefore(_ place: Place) -> RangeSpan {
        if place.index > 0 { return span(Place(leaf: place.leaf, index: place.index - 1)) }
        let last = place.leaf - 1
        return span(Place(leaf: last, index: leaf(last).count - 1))
    }

    /// The first byte and the one behind the last.
    var hull: (start: UInt64, end: UInt64) {
        unsafe (leaf(0).spans[0].start, entries[leafCount - 1].end)
    }
}
