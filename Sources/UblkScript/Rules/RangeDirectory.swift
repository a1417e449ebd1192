import Glibc

/// The intervals of a set in two levels: a directory of leaves (``RangeLeaf``).
///
/// The intervals are sorted, disjoint and never adjacent, so starts and ends both ascend, and a search by end goes
/// first over the leaves and then inside one. Readers only see complete directories. A leaf may be shared by several
/// directories: the current one and retired ones. An empty set has no directory (nil).
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
        /// End of the leaf's last interval, so that a search touches only the leaf in which it ends.
        var end: UInt64
        var leaf: RangeLeaf
    }

    /// The position of an interval: its leaf, and its index in the leaf.
    ///
    /// The end position is (leafCount, 0); an index never equals the leaf's count.
    struct Position {
        var leaf: Int
        var index: Int

        static func < (left: Position, right: Position) -> Bool {
            left.leaf < right.leaf || (left.leaf == right.leaf && left.index < right.index)
        }
    }

    /// Makes an empty directory; fails when there is no memory.
    ///
    /// - Parameter capacity: the number of leaves it has room for.
    init?(capacity: Int) {
        let bytes = MemoryLayout<Head>.stride + capacity * MemoryLayout<Entry>.stride
        guard let memory = unsafe malloc(bytes) else { return nil }
        unsafe head = memory.bindMemory(to: Head.self, capacity: 1)
        unsafe head.initialize(to: Head(capacity: capacity))
    }

    /// - Parameter address: of a live directory.
    @inline(__always)
    init(_ address: UnsafeMutableRawPointer) {
        unsafe head = address.assumingMemoryBound(to: Head.self)
    }

    @inline(__always)
    var address: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(head) }

    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.head == right.head }

    /// Number of intervals in all leaves.
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

    /// The number of leaves it has room for.
    var capacity: Int { unsafe head.pointee.capacity }

    /// The leaves that the successor does not share, set when the directory is replaced.
    var dead: Range<Int> {
        get { unsafe head.pointee.dead }
        nonmutating set { unsafe head.pointee.dead = newValue }
    }

    /// The epoch that began when the directory was replaced.
    var retiredAt: UInt64 {
        get { unsafe head.pointee.retiredAt }
        nonmutating set { unsafe head.pointee.retiredAt = newValue }
    }

    /// The next one in the list of retired directories.
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

    /// Frees the directory and its dead leaves.
    func free(_ pool: inout RangeLeafPool) {
        for index in dead { pool.free(leaf(index)) }
        unsafe Glibc.free(head)
    }
}

// MARK: Searching

extension RangeDirectory {
    /// The number of leaves that end at or before `offset`.
    ///
    /// A binary search down to one block, which is then counted without branches: the comparisons and cache misses of
    /// a count do not depend on each other.
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
        _ blockEnds: UnsafePointer<UInt64>,
        _ count: Int,
        _ offset: UInt64
    ) -> Int {
        var ended = 0
        var index = 0
        while index < count {
            ended &+= unsafe blockEnds[index] <= offset ? 1 : 0
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

    /// The position of the first interval that ends after `offset`; the end position when there is none.
    @inline(__always)
    func firstEndingAfter(_ offset: UInt64) -> Position {
        let number = endedLeaves(offset)
        guard number < leafCount else { return Position(leaf: number, index: 0) }
        let leaf = leaf(number)
        // The leaf's last interval ends after `offset`, so the block that is found has one that does.
        let blocks = (leaf.count &+ (RangeLeaf.blockSpans &- 1)) &>> RangeLeaf.blockShift
        let first = unsafe Self.ended(leaf.blockEnds, blocks, offset) &* RangeLeaf.blockSpans
        let rest = min(leaf.count &- first, RangeLeaf.blockSpans)
        return Position(
            leaf: number,
            index: unsafe first &+ Self.ended(leaf.spans + first, rest, offset)
        )
    }

    @inline(__always)
    func span(_ position: Position) -> RangeSpan {
        unsafe leaf(position.leaf).spans[position.index]
    }

    /// The position of the first interval that starts at or after `offset`: the first that ends after it, or the next.
    func firstStartingFrom(_ offset: UInt64) -> Position {
        let position = firstEndingAfter(offset)
        guard position.leaf < leafCount, span(position).start < offset else { return position }
        if position.index + 1 == leaf(position.leaf).count {
            return Position(leaf: position.leaf + 1, index: 0)
        }
        return Position(leaf: position.leaf, index: position.index + 1)
    }

    /// The interval before a position, which must not be the first one.
    func spanBefore(_ position: Position) -> RangeSpan {
        if position.index > 0 {
            return span(Position(leaf: position.leaf, index: position.index - 1))
        }
        let last = position.leaf - 1
        return span(Position(leaf: last, index: leaf(last).count - 1))
    }

    /// The start of the first interval and the end of the last one.
    var hull: (start: UInt64, end: UInt64) {
        unsafe (leaf(0).spans[0].start, entries[leafCount - 1].end)
    }
}
