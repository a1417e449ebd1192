import CLua

/// Finds the rules that can match an IO at all, without looking at each of them.
///
/// For every op there is a list of its rules, and one of those without a range. A range is represented by its hull:
/// from its first byte to its last. Hulls are sorted by their start, each with the furthest end so far (its reach), so
/// that one binary search tells when an IO misses them all. Then only rules without a range have to be tried.
///
///     hulls by start    [1M 2M)   [1M 9M)   [4M 5M)      an IO at 9M: all three start before its
///     reach               2M        9M        9M         end, none reaches beyond 9M: a miss
///
/// Scripts edit ranges while IOs are served. A set that shrinks stays inside its old hull, so hulls are looked up again
/// only when some set has grown. Nothing allocates after init. Each queue has its own; queue thread only.
@safe
struct RuleIndex: ~Copyable {
    // Safety: `lists` has an element per op, `hulls` one per rule, the others `ruleCount` per op; freed in deinit. The
    // elements of `fitting`, `unranged` and `ranged` are indices below `ruleCount`.
    private let lists: UnsafeMutablePointer<Lists>
    private let fitting: UnsafeMutablePointer<Int32>
    private let unranged: UnsafeMutablePointer<Int32>
    private let ranged: UnsafeMutablePointer<Int32>
    private let starts: UnsafeMutablePointer<UInt64>
    private let reaches: UnsafeMutablePointer<UInt64>
    private let hulls: UnsafeMutablePointer<Hull>
    private let ruleCount: Int
    private let shared: SharedObjects
    /// ``RangeRegistry/growths`` at the last look at the hulls; `.max` before the first, which is not in init because
    /// only an online queue may read sets.
    private var growths = UInt64.max

    /// The lengths of the lists of one op: all its rules, those without a range, those with one.
    private struct Lists {
        var fitting = 0
        var unranged = 0
        var ranged = 0
    }

    /// The hull of a rule's range, which for an empty set overlaps no IO, and for a rule without a range every IO.
    private struct Hull {
        var start = UInt64.max
        var end: UInt64 = 0
    }

    /// Number of ops; they are numbered from 0.
    private static let opPlaces = Int(US_OP_COUNT.rawValue)

    /// - Parameter rules: `count` rules; later calls must pass the same ones.
    init(_ rules: UnsafePointer<Rule>, count: Int, shared: SharedObjects) {
        self.shared = shared
        ruleCount = count
        let places = max(1, Self.opPlaces * count)
        unsafe lists = .allocate(capacity: Self.opPlaces)
        unsafe fitting = .allocate(capacity: places)
        unsafe unranged = .allocate(capacity: places)
        unsafe ranged = .allocate(capacity: places)
        unsafe starts = .allocate(capacity: places)
        unsafe reaches = .allocate(capacity: places)
        unsafe hulls = .allocate(capacity: max(1, count))
        unsafe hulls.initialize(repeating: Hull(), count: max(1, count))
        for op in 0..<Self.opPlaces {
            unsafe (lists + op).initialize(to: Lists())
            unsafe list(op, rules)
        }
    }

    deinit {
        unsafe lists.deallocate()
        unsafe fitting.deallocate()
        unsafe unranged.deallocate()
        unsafe ranged.deallocate()
        unsafe starts.deallocate()
        unsafe reaches.deallocate()
        unsafe hulls.deallocate()
    }

    private func list(_ op: Int, _ rules: UnsafePointer<Rule>) {
        let base = op * ruleCount
        for index in 0..<ruleCount where unsafe rules[index].ops & 1 << UInt32(op) != 0 {
            unsafe fitting[base + lists[op].fitting] = Int32(index)
            unsafe lists[op].fitting += 1
            if unsafe rules[index].range == nil {
                unsafe hulls[index] = Hull(start: 0, end: .max)
                unsafe unranged[base + lists[op].unranged] = Int32(index)
                unsafe lists[op].unranged += 1
            } else {
                unsafe ranged[base + lists[op].ranged] = Int32(index)
                unsafe lists[op].ranged += 1
            }
        }
    }

    /// A list of indices of rules.
    @safe
    struct Candidates {
        // Safety: part of a list of the index, which outlives the use of it by one `match`.
        fileprivate let start: UnsafeMutablePointer<Int32>
        let count: Int

        @inline(__always)
        subscript(place: Int) -> Int { unsafe Int(start[place]) }
    }

    /// The rules to try for an IO, in file order: those of its op, or only those without a range when the IO misses
    /// all hulls.
    @inline(__always)
    mutating func candidates(
        _ rules: UnsafePointer<Rule>,
        op: IOOp,
        offset: UInt64,
        end: UInt64
    ) -> Candidates {
        let place = Int(op.rawValue)
        let lists = unsafe lists[place]
        if lists.ranged != 0 {
            if shared.ranges.growths != growths { unsafe refresh(rules) }
            if hits(place, lists.ranged, offset, end) {
                return unsafe Candidates(start: fitting + place * ruleCount, count: lists.fitting)
            }
        }
        return unsafe Candidates(start: unranged + place * ruleCount, count: lists.unranged)
    }

    /// False when the IO misses the hull of the rule's range.
    ///
    /// - Parameter end: at least 1.
    @inline(__always)
    func mayHit(_ rule: Int, offset: UInt64, end: UInt64) -> Bool {
        unsafe hulls[rule].start < end && hulls[rule].end > offset
    }

    /// True when some hull of the op overlaps the bytes.
    @inline(__always)
    private func hits(_ op: Int, _ count: Int, _ offset: UInt64, _ end: UInt64) -> Bool {
        let starts = unsafe starts + op * ruleCount
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if unsafe starts[middle] < end { low = middle + 1 } else { high = middle }
        }
        return unsafe low > 0 && reaches[op * ruleCount + low - 1] > offset
    }

    /// Looks up every hull and sorts again.
    ///
    /// Rare: only after a set has grown.
    @inline(never)
    private mutating func refresh(_ rules: UnsafePointer<Rule>) {
        // Read before the sets, so that a set which grows meanwhile is looked up the next time.
        growths = shared.ranges.growths
        for index in 0..<ruleCount {
            guard let range = unsafe rules[index].range else { continue }
            unsafe hulls[index] = range.hull.map { Hull(start: $0.start, end: $0.end) } ?? Hull()
        }
        for op in 0..<Self.opPlaces { sort(op) }
    }

    /// Sorts by insertion, which allocates nothing, and is quick as the order has hardly changed since the last time.
    private func sort(_ op: Int) {
        let base = op * ruleCount
        let count = unsafe lists[op].ranged
        for index in 0..<count {
            let rule = unsafe ranged[base + index]
            let start = unsafe hulls[Int(rule)].start
            var place = index
            while place > 0, unsafe hulls[Int(ranged[base + place - 1])].start > start {
                unsafe ranged[base + place] = ranged[base + place - 1]
                place -= 1
            }
            unsafe ranged[base + place] = rule
        }
        var reach: UInt64 = 0
        for index in 0..<count {
            let hull = unsafe hulls[Int(ranged[base + index])]
            reach = max(reach, hull.end)
            unsafe starts[base + index] = hull.start
            unsafe reaches[base + index] = reach
        }
    }
}
