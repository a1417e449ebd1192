import CLua
import Synchronization

/// The native objects that all queues of one device share: `ranges`, `bucket`, `dict`, `counter`, marks, the state, and
/// the rules' history of each 4 KiB block.
///
/// Made once per device, and outlives its scripts; an object is never removed. Any thread: making and finding take a
/// lock, and the objects do their own synchronisation. C calls it `struct us_shared`.
///
/// Objects without a name belong to a rule or to a position in a script, in one of two banks. Successive scripts
/// alternate between the banks, so a reloaded script starts with new objects while the old one still uses its own.
final class SharedObjects: Sendable {
    let ranges: RangeRegistry
    private let reachBytes: UInt64
    private let cells: Mutex<CellTable>
    private let others = Mutex(Others())
    private let dictUsage = DictUsage()

    /// The owner of an object without a name.
    enum Owner: Hashable {
        case rule(bank: Int, number: Int)
        case script(bank: Int, queue: UInt32, number: UInt32)
    }

    fileprivate struct Others {
        var ranges: [[UInt8]: RangeSet] = [:]
        var rangesNames: [String] = []
        var ownRanges: [Owner: RangeSet] = [:]
        var buckets: [[UInt8]: TokenBucket] = [:]
        var ownBuckets: [Owner: TokenBucket] = [:]
        var dicts: [[UInt8]: SharedDict] = [:]
        /// How often each 4 KiB block was accessed, for a rule with `seen`.
        var counts: [Owner: HistoryTable<UInt8>] = [:]
        /// When each 4 KiB block was last written.
        var times: HistoryTable<UInt64>?
    }

    /// - Parameters:
    ///   - reachBytes: how far the device may grow, whatever size it has when a script is loaded; 0: as far as its size
    ///     says then.
    ///   - cells: where the cells are, of ``CellTable/fileBytes``; nil: in memory of this process.
    ///   - journal: of what was done to sets, which is done again, and of what will be; nil: none.
    init(
        queues: Int,
        reachBytes: UInt64 = 0,
        cells: MappedFile? = nil,
        journal: RangeJournal? = nil
    ) {
        self.cells = Mutex(CellTable(in: cells))
        ranges = RangeRegistry(queues: max(1, queues))
        self.reachBytes = reachBytes
        if let journal { take(journal) }
    }

    deinit {
        others.withLock { others in
            for bucket in others.buckets.values { bucket.free() }
            for bucket in others.ownBuckets.values { bucket.free() }
            for dict in others.dicts.values { dict.free() }
            for table in others.counts.values { table.free() }
            others.times?.free()
        }
        dictUsage.free()
        ranges.free()
    }

    /// The address by which C refers to this object; it holds no reference.
    var address: OpaquePointer {
        unsafe OpaquePointer(Unmanaged.passUnretained(self).toOpaque())
    }

    /// Calls `body` with the object at an address from C, without reference counting.
    @inline(__always)
    static func with<Result>(_ address: OpaquePointer?, _ body: (SharedObjects) -> Result) -> Result
    {
        let object = unsafe Unmanaged<SharedObjects>.fromOpaque(
            UnsafeRawPointer(address.unsafelyUnwrapped)
        )
        return unsafe object._withUnsafeGuaranteedRef { body($0) }
    }

    /// Allows the queue's thread to read sets.
    @inline(__always)
    func online(_ queue: QueueID) { ranges.online(Int(queue.rawValue)) }

    /// Ends the queue's reading of sets, before its thread may sleep.
    @inline(__always)
    func offline(_ queue: QueueID) { ranges.offline(Int(queue.rawValue)) }
}

// MARK: Counters, marks and the state

extension SharedObjects {
    /// The cell of that kind and name, made when there is none yet; nil when there are too many or no memory.
    func cell(_ kind: us_cell_kind, _ name: UnsafeRawBufferPointer) -> Cell? {
        cells.withLock { unsafe $0.findOrMake(kind, name) }
    }

    func cell(_ kind: us_cell_kind, _ name: String) -> Cell? {
        var name = name
        return name.withUTF8 { unsafe cell(kind, UnsafeRawBufferPointer($0)) }
    }

    /// The cell of that kind and number; nil when there is none.
    func cell(_ kind: us_cell_kind, number: UInt32) -> Cell? {
        cells.withLock { $0.at(kind, number: number) }
    }

    /// The cell of that kind and name; nil when there is none.
    private func existing(_ kind: us_cell_kind, _ name: String) -> Cell? {
        var name = name
        return name.withUTF8 { name in
            cells.withLock { unsafe $0.find(kind, UnsafeRawBufferPointer(name)) }
        }
    }

    /// When the mark of that name was last set, nanoseconds on the device's clock; nil when it never was.
    func timeOfMark(_ name: String) -> UInt64? {
        guard let cell = existing(US_CELL_MARK, name), cell.value != 0 else { return nil }
        return cell.time
    }

    /// The number of times the mark of that name was set.
    func countOfMark(_ name: String) -> UInt64 {
        UInt64(clamping: existing(US_CELL_MARK, name)?.value ?? 0)
    }

    /// The name of the device's state; nil until one is set.
    var stateName: String? {
        guard let state = existing(US_CELL_STATE, "") else { return nil }
        return cell(US_CELL_STATE_NAME, number: UInt32(truncatingIfNeeded: state.value))?.name
    }
}

// MARK: Buckets, tables and histories

extension SharedObjects {
    /// The bucket of that name; nil when there are too many.
    ///
    /// An existing bucket gets the new rate but keeps its fill level.
    func bucket(_ name: UnsafeRawBufferPointer, _ rate: TokenBucket.Rate) -> TokenBucket? {
        others.withLock { others in
            Self.findOrMake(&others.buckets, unsafe Array(name), make: { TokenBucket(rate) }) {
                $0.set(rate)
            }
        }
    }

    /// A bucket without a name, full, as every script starts with a new one; nil when there are too many.
    func bucket(of owner: Owner, _ rate: TokenBucket.Rate) -> TokenBucket? {
        others.withLock { others in
            Self.findOrMake(&others.ownBuckets, owner, make: { TokenBucket(rate) }) {
                $0.set(rate)
                $0.refill()
            }
        }
    }

    /// The table of that name, made when there is none yet; nil when there are too many.
    func dict(_ name: UnsafeRawBufferPointer) -> SharedDict? {
        others.withLock { others in
            Self.findOrMake(&others.dicts, unsafe Array(name), make: { SharedDict(dictUsage) }) {
                _ in
            }
        }
    }

    /// A table of how often each 4 KiB block was accessed, for one rule, all zeroes; nil when there is no memory.
    ///
    /// - Parameters:
    ///   - rule: its number in the script.
    ///   - bank: ``Script/Options/bank`` of the script.
    func counts(rule: Int, bank: Int, deviceBytes: UInt64) -> HistoryTable<UInt8>? {
        others.withLock { others in
            Self.findOrMake(
                &others.counts,
                .rule(bank: bank, number: rule),
                make: { HistoryTable(deviceBytes: deviceBytes, reachBytes: reachBytes) },
                found: { $0.reset() }
            )
        }
    }

    /// The table of when each 4 KiB block was last written; nil when there is no memory.
    func writeTimes(deviceBytes: UInt64) -> HistoryTable<UInt64>? {
        others.withLock { others in
            if others.times == nil {
                others.times = HistoryTable(deviceBytes: deviceBytes, reachBytes: reachBytes)
            }
            return others.times
        }
    }

    private static func findOrMake<Key, Object>(
        _ objects: inout [Key: Object],
        _ key: Key,
        make: () -> Object?,
        found: (Object) -> Void
    ) -> Object? {
        if let object = objects[key] {
            found(object)
            return object
        }
        guard objects.count < US_OBJECTS_MAX, let object = make() else { return nil }
        objects[key] = object
        return object
    }
}

// MARK: Sets of ranges

extension SharedObjects {
    /// The names of all named sets, in the order they were made.
    var rangesNames: [String] { others.withLock { $0.rangesNames } }

    /// The set of that name; nil when there is none.
    func ranges(named name: String) -> RangeSet? {
        others.withLock { $0.ranges[Array(name.utf8)] }
    }

    /// The set of that name, made when there is none yet; an empty name always makes a new one; nil when there are too
    /// many.
    func makeRanges(named name: String) -> RangeSet? {
        if name.isEmpty { return ranges.makeSet() }
        return others.withLock { others in
            let key = Array(name.utf8)
            if let set = others.ranges[key] { return set }
            guard key.count <= US_NAME_BYTES_MAX, let set = ranges.makeSet(name) else {
                return nil
            }
            others.ranges[key] = set
            others.rangesNames.append(name)
            return set
        }
    }

    /// The set of that owner, made when there is none yet; nil when there are too many.
    func makeRanges(of owner: Owner) -> RangeSet? {
        others.withLock { $0.ownRanges[owner] ?? $0.makeRanges(of: owner, ranges) }
    }

    /// A set without a name, empty, as every script starts with a new one; nil when there are too many or no memory.
    func emptyRanges(of owner: Owner) -> RangeSet? {
        others.withLock { others in
            if let set = others.ownRanges[owner] { return set.clear() ? set : nil }
            return others.makeRanges(of: owner, ranges)
        }
    }

    /// Makes the set for a rule's `range = { offset, length }`, which all queues share.
    ///
    /// - Parameters:
    ///   - rule: its number in the script.
    ///   - bank: ``Script/Options/bank`` of the script.
    ///   - isKept: the set is there, with what has become of those bytes.
    /// - Returns: the set's address; nil when there is no memory.
    func ruleRanges(
        _ rule: Int,
        bank: Int,
        offset: UInt64,
        length: UInt64,
        isKept: Bool = false
    ) -> UInt? {
        guard let set = makeRanges(of: .rule(bank: bank, number: rule)),
            isKept || set.add(offset, length)
        else { return nil }
        return set.address
    }

    /// Empties the sets of ``ruleRanges(_:bank:offset:length:isKept:)`` before a script is loaded into that bank again.
    ///
    /// - Returns: false when there is no memory.
    func clearRuleRanges(bank: Int) -> Bool {
        others.withLock { others in
            others.ownRanges.allSatisfy { owner, set in
                guard case .rule(bank, _) = owner else { return true }
                return set.clear()
            }
        }
    }
}

extension SharedObjects.Others {
    fileprivate mutating func makeRanges(
        of owner: SharedObjects.Owner,
        _ registry: RangeRegistry
    ) -> RangeSet? {
        let set = registry.makeSet(of: owner)
        ownRanges[owner] = set
        return set
    }
}
