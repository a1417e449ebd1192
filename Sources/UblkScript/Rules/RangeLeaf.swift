import Glibc

/// The bytes `start` ..< `end`; never empty.
struct RangeSpan {
    var start: UInt64
    var end: UInt64
}

/// A sorted array of consecutive intervals of a set, at least one, in one allocation.
///
/// The intervals are in blocks of ``blockSpans``. A search touches the head, with the end of each block, and one
/// block: with a million intervals most of the set is in no cache, so cache misses cost more than comparisons. Owned
/// by the directories that refer to it (``RangeDirectory``); ``RangeSet`` says who may read and who may edit.
@safe
struct RangeLeaf: Equatable, @unchecked Sendable {
    // Safety: the head, then room for all block ends and for `capacity` spans; made and freed by RangeLeafPool.
    fileprivate let head: UnsafeMutablePointer<Head>

    fileprivate struct Head {
        let isPooled: Bool
        var count = 0
        let capacity: Int
    }

    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.head == right.head }

    /// The most intervals in a leaf; with a million in the set, a leaf and the directory cost about the same to copy.
    static let spansMax = 1024
    static let blockShift = 5
    @inline(__always)
    static var blockSpans: Int { 1 << blockShift }

    @inline(__always)
    private static var spansOffset: Int {
        MemoryLayout<Head>.stride + spansMax / blockSpans * MemoryLayout<UInt64>.stride
    }

    fileprivate static func byteCount(capacity: Int) -> Int {
        spansOffset + capacity * MemoryLayout<RangeSpan>.stride
    }

    @inline(__always)
    var count: Int {
        get { unsafe head.pointee.count }
        nonmutating set { unsafe head.pointee.count = newValue }
    }

    var capacity: Int { unsafe head.pointee.capacity }

    /// The end of the last interval of each block that is in use.
    @inline(__always)
    var blockEnds: UnsafeMutablePointer<UInt64> {
        unsafe (UnsafeMutableRawPointer(head) + MemoryLayout<Head>.stride)
            .assumingMemoryBound(to: UInt64.self)
    }

    @inline(__always)
    var spans: UnsafeMutablePointer<RangeSpan> {
        unsafe (UnsafeMutableRawPointer(head) + Self.spansOffset)
            .assumingMemoryBound(to: RangeSpan.self)
    }

    /// The end of the last interval.
    var end: UInt64 { unsafe spans[count - 1].end }

    /// Updates the block ends, from the block that has the interval at `index` on.
    func setBlockEnds(from index: Int) {
        var block = index / Self.blockSpans
        while block * Self.blockSpans < count {
            let last = min(count, (block + 1) * Self.blockSpans) - 1
            unsafe blockEnds[block] = spans[last].end
            block += 1
        }
    }
}

/// The allocator of leaves: those of large sets are equal slots in huge pages, others come from malloc.
///
/// A search in a set that is larger than the caches waits for memory and, with small pages, for TLB misses too: with a
/// million intervals that was 7 % of a decision. Slots are cut from aligned chunks of 2 MiB, for which madvise asks
/// the kernel for huge pages (it grants them unless transparent_hugepage/enabled is `never`). One per registry, under
/// its lock; chunks are freed with it.
@safe
struct RangeLeafPool: ~Copyable, @unchecked Sendable {
    // Safety: lists of chunks and of free slots, linked through the first word of each.
    private var chunks: UnsafeMutableRawPointer?
    private var free: UnsafeMutableRawPointer?

    private static let chunkBytes = 2 << 20
    private static let lineBytes = 64

    private static var slotBytes: Int {
        (RangeLeaf.byteCount(capacity: RangeLeaf.spansMax) + lineBytes - 1) / lineBytes * lineBytes
    }

    deinit {
        var next = unsafe chunks
        while let chunk = unsafe next {
            unsafe next = chunk.load(as: UnsafeMutableRawPointer?.self)
            unsafe Glibc.free(chunk)
        }
    }

    private mutating func addChunk() -> Bool {
        guard let chunk = unsafe aligned_alloc(Self.chunkBytes, Self.chunkBytes) else {
            return false
        }
        unsafe madvise(chunk, Self.chunkBytes, MADV_HUGEPAGE)  // best effort
        unsafe chunk.storeBytes(of: chunks, as: UnsafeMutableRawPointer?.self)
        unsafe chunks = chunk
        // In reverse, so that slots are handed out in ascending order.
        for slot in (0..<(Self.chunkBytes - Self.lineBytes) / Self.slotBytes).reversed() {
            unsafe give(back: chunk + Self.lineBytes + slot * Self.slotBytes)
        }
        return true
    }

    private mutating func give(back slot: UnsafeMutableRawPointer) {
        unsafe slot.storeBytes(of: free, as: UnsafeMutableRawPointer?.self)
        unsafe free = slot
    }

    /// Makes an empty leaf; nil when there is no memory.
    ///
    /// - Parameter isPooled: take a slot of a chunk, which has room for ``RangeLeaf/spansMax`` whatever `capacity` is.
    mutating func make(capacity: Int, isPooled: Bool) -> RangeLeaf? {
        let memory: UnsafeMutableRawPointer
        if isPooled {
            if unsafe free == nil, !addChunk() { return nil }
            guard let slot = unsafe free else { return nil }
            unsafe free = slot.load(as: UnsafeMutableRawPointer?.self)
            unsafe memory = slot
        } else {
            guard let own = unsafe malloc(RangeLeaf.byteCount(capacity: capacity)) else {
                return nil
            }
            unsafe memory = own
        }
        let head = unsafe memory.bindMemory(to: RangeLeaf.Head.self, capacity: 1)
        unsafe head.initialize(
            to: .init(isPooled: isPooled, capacity: isPooled ? RangeLeaf.spansMax : capacity)
        )
        return unsafe RangeLeaf(head: head)
    }

    mutating func free(_ leaf: RangeLeaf) {
        if unsafe leaf.head.pointee.isPooled {
            unsafe give(back: leaf.head)
        } else {
            unsafe Glibc.free(leaf.head)
        }
    }
}
