import Glibc

/// Bytes `start` ..< `end`, never none.
struct RangeSpan {
    var start: UInt64
    var end: UInt64
}

/// Neighbouring intervals of a set, at least one, in one piece of memory.
///
/// A search in it touches its head and one block: with a million intervals most of the set is in no cache, so what
/// costs is how often it waits for memory, not how much it compares. Owner: the directories that name it
/// (``RangeDirectory``); who may look and who may edit: ``RangeSet``.
@safe
struct RangeLeaf: Equatable, @unchecked Sendable {
    // Safety: the head, then room for `marksMax` marks and `capacity` spans; made and freed by RangeLeafPool.
    fileprivate let head: UnsafeMutablePointer<Head>

    fileprivate struct Head {
        let isPooled: Bool
        var count = 0
        let capacity: Int
    }

    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.head == right.head }

    /// Near what makes leaf and directory of a million intervals cost the same to copy.
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

    /// The end of the last interval of each block of ``blockSpans``, as far as used.
    @inline(__always)
    var marks: UnsafeMutablePointer<UInt64> {
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

    /// Sets the marks from the block on that has the interval at `index`.
    func mark(from index: Int) {
        var block = index / Self.blockSpans
        while block * Self.blockSpans < count {
            let last = min(count, (block + 1) * Self.blockSpans) - 1
            unsafe marks[block] = spans[last].end
            block += 1
        }
    }
}

/// Where leaves come from: those of large sets are places of one size in huge pages.
///
/// A search in a set that no cache holds waits for memory, and with small pages for their addresses, too: of a million
/// intervals that was 7 % of a decision. Places are cut from aligned chunks of 2 MiB, for which the kernel is asked to
/// give huge pages where its setting (transparent_hugepage/enabled) leaves that to programs. One a registry, under its
/// lock; chunks go with it.
@safe
struct RangeLeafPool: ~Copyable, @unchecked Sendable {
    // Safety: lists of chunks and of free places, each linked by its first word.
    private var chunks: UnsafeMutableRawPointer?
    private var free: UnsafeMutableRawPointer?

    private static let chunkBytes = 2 << 20
    private static let lineBytes = 64

    private static var placeBytes: Int {
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
        unsafe madvise(chunk, Self.chunkBytes, MADV_HUGEPAGE)  // slower without, that is all
        unsafe chunk.storeBytes(of: chunks, as: UnsafeMutableRawPointer?.self)
        unsafe chunks = chunk
        // The first one is given out first.
        for place in (0..<(Self.chunkBytes - Self.lineBytes) / Self.placeBytes).reversed() {
            unsafe give(back: chunk + Self.lineBytes + place * Self.placeBytes)
        }
        return true
    }

    private mutating func give(back place: UnsafeMutableRawPointer) {
        unsafe place.storeBytes(of: free, as: UnsafeMutableRawPointer?.self)
        unsafe free = place
    }

    /// An empty leaf, nil when there is no memory.
    ///
    /// - Parameter isPooled: it is a place of a chunk, with room for all that a leaf may have.
    mutating func make(capacity: Int, isPooled: Bool) -> RangeLeaf? {
        let memory: UnsafeMutableRawPointer
        if isPooled {
            if unsafe free == nil, !addChunk() { return nil }
            guard let place = unsafe free else { return nil }
            unsafe free = place.load(as: UnsafeMutableRawPointer?.self)
            unsafe memory = place
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
