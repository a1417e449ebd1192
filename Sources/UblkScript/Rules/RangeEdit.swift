import CLua

/// One edit of a set's intervals: replaces those between two positions by at most two new ones.
///
/// The intervals are in leaves of at most ``RangeLeaf/spansMax``, so an edit moves or copies one leaf and, when the
/// number of leaves changes or there may be readers, the directory: 11 KiB and 23 KiB for 1,000,000 intervals in
/// random order, where one sorted array would be 16 MiB.
///
/// Used under the registry's lock. While there can be no readers, a leaf is edited in place and has room to grow.
/// Otherwise nothing that readers may see is written: new leaves and a new directory are made, and the leaves that
/// only the old directory refers to are freed with it.
///
/// A leaf that becomes small is merged with a neighbour when both fit into one with room to spare. So of two
/// neighbours at most one is small, and the directory's size follows the present number of intervals.
///
/// The functions are mutating to avoid copies of this struct.
@safe
struct RangeEdit {
    // Safety: runs point into leaves of `old` and to the new intervals; both live as long as the edit.
    private let old: RangeDirectory?
    private let isExclusive: Bool
    private let from: RangeDirectory.Position
    private let to: RangeDirectory.Position

    /// The leaves that are replaced.
    private var leaves = 0..<0
    // The contents of the new leaves, in this order.
    private var leafBefore = Run()
    private var keptBefore = Run()
    private var inserted = Run()
    private var keptAfter = Run()
    private var leafAfter = Run()
    private var total = 0

    @safe
    private struct Run {
        var start: UnsafePointer<RangeSpan>?
        var count = 0
    }

    private static let leafSmall = RangeLeaf.spansMax / 4
    /// The most intervals in a merged leaf: three quarters, so that it is not soon split again.
    private static let leafJoined = RangeLeaf.spansMax * 3 / 4
    /// A set with this many leaves is larger than the caches; its new leaves are in huge pages.
    private static let leavesMany = 64

    init(
        of old: RangeDirectory?,
        from: RangeDirectory.Position,
        to: RangeDirectory.Position,
        isExclusive: Bool
    ) {
        self.old = old
        self.from = from
        self.to = to
        self.isExclusive = isExclusive
    }

    private var oldCount: Int { old?.leafCount ?? 0 }

    /// The outcome of an edit: the directory to publish, which may be the old one; nil for an empty set.
    struct Result {
        let directory: RangeDirectory?
    }

    /// Carries the edit out.
    ///
    /// - Returns: nil, with nothing changed, when there is no memory or the registry has too many intervals.
    mutating func make(
        _ one: RangeSpan?,
        _ other: RangeSpan?,
        _ state: inout RangeRegistry.State
    ) -> Result? {
        unsafe withUnsafeTemporaryAllocation(of: RangeSpan.self, capacity: 2) { room in
            var count = 0
            if let one {
                unsafe room.initializeElement(at: 0, to: one)
                count = 1
            }
            if let other {
                unsafe room.initializeElement(at: count, to: other)
                count += 1
            }
            return unsafe make(Run(start: UnsafePointer(room.baseAddress), count: count), &state)
        }
    }

    private mutating func make(_ new: Run, _ state: inout RangeRegistry.State) -> Result? {
        let out = takenOut()
        let before = old?.count ?? 0
        let count = before - out.count + new.count
        let inAll = state.intervalCount - before + count
        if count > before, inAll > US_INTERVALS_MAX { return nil }
        let bytes = (old?.bytes ?? 0) - out.bytes + Self.bytes(new)
        plan(new)
        let directory: RangeDirectory?
        if let old, isExclusive, editInPlace(old) {
            directory = old
        } else {
            guard let made = replaceLeaves(&state) else { return nil }
            directory = made.directory
        }
        directory?.count = count
        directory?.bytes = bytes
        state.intervalCount = inAll
        return Result(directory: directory)
    }

    private static func bytes(_ run: Run) -> UInt64 {
        var bytes: UInt64 = 0
        guard let spans = unsafe run.start else { return 0 }
        for index in 0..<run.count { unsafe bytes += spans[index].end - spans[index].start }
        return bytes
    }

    /// The number and the bytes of the intervals that the edit removes.
    private mutating func takenOut() -> (count: Int, bytes: UInt64) {
        guard let old else { return (0, 0) }
        var count = 0
        var bytes: UInt64 = 0
        var number = from.leaf
        while number < old.leafCount, number <= to.leaf {
            let leaf = old.leaf(number)
            let first = number == from.leaf ? from.index : 0
            let end = number == to.leaf ? to.index : leaf.count
            unsafe bytes += Self.bytes(Run(start: leaf.spans + first, count: end - first))
            count += end - first
            number += 1
        }
        return (count, bytes)
    }

    // MARK: Contents of the new leaves

    private mutating func run(_ leaf: RangeLeaf, from first: Int, count: Int) -> Run {
        total += count
        return unsafe Run(start: UnsafePointer(leaf.spans + first), count: count)
    }

    /// Whether the new contents are small enough to be merged with a neighbouring leaf.
    private mutating func joins(_ leaf: RangeLeaf) -> Bool {
        total < Self.leafSmall && total + leaf.count <= Self.leafJoined
    }

    private mutating func plan(_ new: Run) {
        inserted = new
        total = new.count
        guard let old else { return }
        var first = from
        if first.leaf == old.leafCount, first.leaf > 0 {  // at the end: append to the last leaf
            first.leaf -= 1
            first.index = old.leaf(first.leaf).count
        }
        var start = first.leaf
        var end = to.leaf + (to.index > 0 ? 1 : 0)
        if end == start, end < old.leafCount { end += 1 }  // before a leaf's first interval
        if start < end {
            let right = old.leaf(end - 1)
            let rest = to.leaf < end ? to.index : right.count
            keptBefore = run(old.leaf(start), from: 0, count: first.index)
            keptAfter = run(right, from: rest, count: right.count - rest)
        }
        if end < old.leafCount, joins(old.leaf(end)) {
            leafAfter = run(old.leaf(end), from: 0, count: old.leaf(end).count)
            end += 1
        }
        if start > 0, joins(old.leaf(start - 1)) {
            start -= 1
            leafBefore = run(old.leaf(start), from: 0, count: old.leaf(start).count)
        }
        leaves = start..<end
    }

    // MARK: In place

    /// Edits the one leaf that is affected, when there are no readers; false when several are, or it has no room.
    private mutating func editInPlace(_ old: RangeDirectory) -> Bool {
        guard leaves.count == 1, total > 0 else { return false }
        let leaf = old.leaf(leaves.lowerBound)
        guard total <= leaf.capacity else { return false }
        let place = unsafe leaf.spans + keptBefore.count
        unsafe Self.move(keptAfter, to: place + inserted.count)
        unsafe Self.move(inserted, to: place)
        leaf.count = total
        leaf.setBlockEnds(from: keptBefore.count)
        unsafe old.entries[leaves.lowerBound].end = leaf.end
        return true
    }

    /// Copies a run, which may overlap its destination.
    private static func move(_ run: Run, to place: UnsafeMutablePointer<RangeSpan>) {
        if run.count > 0, let start = unsafe run.start {
            unsafe place.update(from: start, count: run.count)
        }
    }

    // MARK: New leaves

    /// Replaces the old leaves by new ones; nil when there is no memory.
    private mutating func replaceLeaves(_ state: inout RangeRegistry.State) -> Result? {
        guard let new = makeLeaves(&state) else { return nil }
        let newCount = (new.first == nil ? 0 : 1) + (new.second == nil ? 0 : 1)
        let leafCount = oldCount - leaves.count + newCount
        guard leafCount > 0 else {
            old?.dead = leaves
            return Result(directory: nil)
        }
        guard let directory = target(leafCount) else {
            if let leaf = new.first { state.pool.free(leaf) }
            if let leaf = new.second { state.pool.free(leaf) }
            return nil
        }
        if let old {
            if directory == old {
                for number in leaves { state.pool.free(old.leaf(number)) }
            } else {
                old.dead = leaves
            }
        }
        write(new, newCount, to: directory)
        directory.leafCount = leafCount
        return Result(directory: directory)
    }

    private typealias NewLeaves = (first: RangeLeaf?, second: RangeLeaf?)

    /// Makes and fills the new leaves; nil when there is no memory.
    private mutating func makeLeaves(_ state: inout RangeRegistry.State) -> NewLeaves? {
        guard total > 0 else { return (nil, nil) }
        // Split in halves, but leave full leaves behind when intervals are added in ascending order.
        let isAtEnd = leaves.upperBound == oldCount && keptAfter.count == 0
        let half = isAtEnd ? RangeLeaf.spansMax : total / 2
        let firstCount = total > RangeLeaf.spansMax ? half : total
        guard let first = makeLeaf(firstCount, &state) else { return nil }
        var second: RangeLeaf?
        if firstCount < total {
            second = makeLeaf(total - firstCount, &state)
            if second == nil {
                state.pool.free(first)
                return nil
            }
        }
        func fill(_ run: Run) {
            let left = min(run.count, firstCount - first.count)
            Self.append(run, 0, left, to: first)
            if let second { Self.append(run, left, run.count - left, to: second) }
        }
        fill(leafBefore)
        fill(keptBefore)
        fill(inserted)
        fill(keptAfter)
        fill(leafAfter)
        return (first, second)
    }

    /// Makes a leaf for `count` intervals, with spare room when it can be edited in place.
    private mutating func makeLeaf(_ count: Int, _ state: inout RangeRegistry.State) -> RangeLeaf? {
        let capacity = min(isExclusive ? count + count / 2 + 4 : count, RangeLeaf.spansMax)
        return state.pool.make(capacity: capacity, isPooled: oldCount >= Self.leavesMany)
    }

    private static func append(_ run: Run, _ first: Int, _ count: Int, to leaf: RangeLeaf) {
        guard count > 0, let start = unsafe run.start else { return }
        unsafe move(Run(start: start + first, count: count), to: leaf.spans + leaf.count)
        leaf.count += count
    }

    /// The directory to write to: the old one when it has room and no readers, or a new one; nil when there is no
    /// memory.
    private mutating func target(_ leafCount: Int) -> RangeDirectory? {
        guard isExclusive else { return RangeDirectory(capacity: leafCount) }
        if let old, leafCount <= old.capacity { return old }
        return RangeDirectory(capacity: leafCount + leafCount / 2)
    }

    private static func write(
        _ leaf: RangeLeaf,
        to place: UnsafeMutablePointer<RangeDirectory.Entry>
    ) {
        leaf.setBlockEnds(from: 0)
        unsafe place.initialize(to: RangeDirectory.Entry(end: leaf.end, leaf: leaf))
    }

    /// Writes the entries to the directory, which is the old one or empty.
    private mutating func write(_ new: NewLeaves, _ newCount: Int, to directory: RangeDirectory) {
        let place = unsafe directory.entries + leaves.lowerBound
        if let old {
            if directory != old {
                unsafe directory.entries.update(from: old.entries, count: leaves.lowerBound)
            }
            unsafe (place + newCount).update(
                from: old.entries + leaves.upperBound,
                count: oldCount - leaves.upperBound
            )
        }
        if let leaf = new.first { unsafe Self.write(leaf, to: place) }
        if let leaf = new.second { unsafe Self.write(leaf, to: place + 1) }
    }
}
