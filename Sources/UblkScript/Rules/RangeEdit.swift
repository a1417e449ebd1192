import CLua

/// One edit of a set's intervals.
///
/// They lie in leaves of at most ``RangeLeaf/spansMax``, found by a directory, so an edit moves or copies one leaf
/// and, where leaves come or go or readers may be looking, the directory: 11 KiB and 23 KiB with 1,000,000 intervals
/// in random order, where one sorted array would be 16 MiB.
///
/// Lives under the registry's lock. While nobody can be reading, a leaf is edited in place and has room to grow. Else
/// nothing that readers may see is written: new leaves and a new directory are made, and the old directory carries
/// what it alone still names into its retirement.
///
/// A leaf that gets small joins a neighbour when both fit in one with room to spare, so of two neighbours never both
/// are small and the directory stays in proportion to what is in the set, not to what once was.
///
/// Its functions are mutating so that none of them copies it.
@safe
struct RangeEdit {
    // Safety: runs point into leaves of `old` and to the new intervals; both live as long as the edit.
    private let old: RangeDirectory?
    private let isExclusive: Bool
    private let from: RangeDirectory.Place
    private let to: RangeDirectory.Place

    /// The leaves that become new ones.
    private var leaves = 0..<0
    /// What is in the new ones, in this order.
    private var leafBefore = Run()
    private var inFront = Run()
    private var pieces = Run()
    private var behind = Run()
    private var leafAfter = Run()
    private var total = 0

    @safe
    private struct Run {
        var start: UnsafePointer<RangeSpan>?
        var count = 0
    }

    private static let leafSmall = RangeLeaf.spansMax / 4
    /// Three quarters, where two small ones make a half: a joined leaf is not soon split again.
    private static let leafJoined = RangeLeaf.spansMax * 3 / 4
    /// From so many on they are in huge pages: the set is larger than the caches.
    private static let leavesMany = 64

    init(
        of old: RangeDirectory?,
        from: RangeDirectory.Place,
        to: RangeDirectory.Place,
        isExclusive: Bool
    ) {
        self.old = old
        self.from = from
        self.to = to
        self.isExclusive = isExclusive
    }

    private var oldCount: Int { old?.leafCount ?? 0 }

    /// The directory after the edit, which may be the old one; nil inside for an empty set.
    struct Result {
        let directory: RangeDirectory?
    }

    /// Makes it; nil: no memory, or too many intervals in the registry, and nothing has changed.
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

    /// How many intervals the edit takes out, and their bytes.
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

    // MARK: What is in the new leaves

    private mutating func run(_ leaf: RangeLeaf, from first: Int, count: Int) -> Run {
        total += count
        return unsafe Run(start: UnsafePointer(leaf.spans + first), count: count)
    }

    /// The small rest and that leaf are better one.
    private mutating func joins(_ leaf: RangeLeaf) -> Bool {
        total < Self.leafSmall && total + leaf.count <= Self.leafJoined
    }

    private mutating func plan(_ new: Run) {
        pieces = new
        total = new.count
        guard let old else { return }
        var first = from
        if first.leaf == old.leafCount, first.leaf > 0 {  // behind all: the last leaf goes on
            first.leaf -= 1
            first.index = old.leaf(first.leaf).count
        }
        var start = first.leaf
        var end = to.leaf + (to.index > 0 ? 1 : 0)
        if end == start, end < old.leafCount { end += 1 }  // in front of a leaf's first
        if start < end {
            let right = old.leaf(end - 1)
            let rest = to.leaf < end ? to.index : right.count
            inFront = run(old.leaf(start), from: 0, count: first.index)
            behind = run(right, from: rest, count: right.count - rest)
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

    /// With one leaf that has room, and nobody looking: no new one.
    private mutating func editInPlace(_ old: RangeDirectory) -> Bool {
        guard leaves.count == 1, total > 0 else { return false }
        let leaf = old.leaf(leaves.lowerBound)
        guard total <= leaf.capacity else { return false }
        let place = unsafe leaf.spans + inFront.count
        unsafe Self.move(behind, to: place + pieces.count)
        unsafe Self.move(pieces, to: place)
        leaf.count = total
        leaf.mark(from: inFront.count)
        unsafe old.entries[leaves.lowerBound].end = leaf.end
        return true
    }

    /// They may overlap.
    private static func move(_ run: Run, to place: UnsafeMutablePointer<RangeSpan>) {
        if run.count > 0, let start = unsafe run.start {
            unsafe place.update(from: start, count: run.count)
        }
    }

    // MARK: New leaves

    /// Puts new leaves in the place of old ones; nil: no memory.
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

    /// At most two, filled; nil: no memory.
    private mutating func makeLeaves(_ state: inout RangeRegistry.State) -> NewLeaves? {
        guard total > 0 else { return (nil, nil) }
        // Halves; but what is filled in ascending order shall be full.
        let isAtEnd = leaves.upperBound == oldCount && behind.count == 0
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
        fill(inFront)
        fill(pieces)
        fill(behind)
        fill(leafAfter)
        return (first, second)
    }

    /// Room for that many, and for more when it will be edited in place.
    private mutating func makeLeaf(_ count: Int, _ state: inout RangeRegistry.State) -> RangeLeaf? {
        let capacity = min(isExclusive ? count + count / 2 + 4 : count, RangeLeaf.spansMax)
        return state.pool.make(capacity: capacity, isPooled: oldCount >= Self.leavesMany)
    }

    private static func append(_ run: Run, _ first: Int, _ count: Int, to leaf: RangeLeaf) {
        guard count > 0, let start = unsafe run.start else { return }
        unsafe move(Run(start: start + first, count: count), to: leaf.spans + leaf.count)
        leaf.count += count
    }

    /// The directory that the edit is written to: the old one with room enough, or a new one; nil: no memory.
    private mutating func target(_ leafCount: Int) -> RangeDirectory? {
        guard isExclusive else { return RangeDirectory(capacity: leafCount) }
        if let old, leafCount <= old.capacity { return old }
        return RangeDirectory(capacity: leafCount + leafCount / 2)
    }

    private static func write(
        _ leaf: RangeLeaf,
        to place: UnsafeMutablePointer<RangeDirectory.Entry>
    ) {
        leaf.mark(from: 0)
        unsafe place.initialize(to: RangeDirectory.Entry(end: leaf.end, leaf: leaf))
    }

    /// Writes the entries; the directory is the old one, or empty.
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
