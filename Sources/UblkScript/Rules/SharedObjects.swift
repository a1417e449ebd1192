import CLua
import Synchronization

/// The native objects that all queues of one device share: `ranges`, `bucket`, `dict`, `counter`, marks, the state, and
/// what rules know of each 4 KiB.
///
/// Made once per device, outlives its scripts; an object is never removed. Any thread: making and finding takes a lock,
/// the objects do their own synchronisation. C knows it as `struct us_shared`.
@safe
final class SharedObjects: Sendable {
    // Safety: freed in deinit; every script keeps a reference to this object.
    nonisolated(unsafe) let sets: OpaquePointer
    private let cells = Mutex(CellTable())
    private let others = Mutex(Others())
    private let dictUsage = DictUsage()

    /// Who has an object that has no name.
    enum Owner: Hashable {
        case rule(bank: Int, number: Int)
        case script(bank: Int, queue: UInt32, number: UInt32)
    }

    // Safety: sets live as long as `sets`.
    @safe
    private struct Others {
        var buckets: [[UInt8]: TokenBucket] = [:]
        var ownBuckets: [Owner: TokenBucket] = [:]
        var dicts: [[UInt8]: SharedDict] = [:]
        /// How often each 4 KiB was accessed, for a rule.
        var counts: [Owner: HistoryTable<UInt8>] = [:]
        /// When each 4 KiB was written.
        var times: HistoryTable<UInt64>?
        var rangesOfRules: [Owner: OpaquePointer] = unsafe [:]
    }

    /// Of each kind; native memory is outside of a script's own limit, so a load phase that runs away meets one here.
    private static let objectsMax = 1 << 16

    init(queues: Int) {
        guard let sets = unsafe us_sets_new(UInt32(queues)) else {
            preconditionFailure("out of memory")
        }
        unsafe self.sets = sets
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
        unsafe us_sets_free(sets)
    }

    /// How C calls it.
    var address: OpaquePointer {
        unsafe OpaquePointer(Unmanaged.passUnretained(self).toOpaque())
    }

    /// What C means by that address; counts no reference.
    @inline(__always)
    static func with<Result>(_ address: OpaquePointer?, _ body: (SharedObjects) -> Result) -> Result
    {
        let object = unsafe Unmanaged<SharedObjects>.fromOpaque(
            UnsafeRawPointer(address.unsafelyUnwrapped)
        )
        return unsafe object._withUnsafeGuaranteedRef { body($0) }
    }

    /// The queue's thread starts looking at sets.
    @inline(__always)
    func online(_ queue: QueueID) { unsafe us_sets_online(sets, UInt32(queue.rawValue)) }

    /// The queue's thread may sleep now.
    @inline(__always)
    func offline(_ queue: QueueID) { unsafe us_sets_offline(sets, UInt32(queue.rawValue)) }
}

// MARK: Counters, marks and the state

extension SharedObjects {
    /// The cell of that kind and name, made when there is none yet; nil when it cannot be.
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

    /// When the mark of that name was set last, on the device's clock; nil when it never was.
    func timeOfMark(_ name: String) -> UInt64? {
        guard let cell = existing(US_CELL_MARK, name), cell.value != 0 else { return nil }
        return cell.time
    }

    /// How often the mark of that name was set.
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
    /// The bucket of that name; one that exists gets the new rate and keeps what was taken.
    ///
    /// nil: too many.
    func bucket(_ name: UnsafeRawBufferPointer, _ rate: TokenBucket.Rate) -> TokenBucket? {
        others.withLock { others in
            Self.findOrMake(&others.buckets, unsafe Array(name), make: { TokenBucket(rate) }) {
                $0.set(rate)
            }
        }
    }

    /// The bucket that has no name; full, as it is new to each script that is loaded.
    ///
    /// nil: too many.
    func bucket(of owner: Owner, _ rate: TokenBucket.Rate) -> TokenBucket? {
        others.withLock { others in
            Self.findOrMake(&others.ownBuckets, owner, make: { TokenBucket(rate) }) {
                $0.set(rate)
                $0.refill()
            }
        }
    }

    /// The table of that name, made when there is none; nil: too many.
    func dict(_ name: UnsafeRawBufferPointer) -> SharedDict? {
        others.withLock { others in
            Self.findOrMake(&others.dicts, unsafe Array(name), make: { SharedDict(dictUsage) }) {
                _ in
            }
        }
    }

    /// How often each 4 KiB was accessed, for the rule of that number: all zeroes; nil when there is no memory.
    ///
    /// - Parameter bank: as in ``Script/Options/bank``.
    func counts(rule: Int, bank: Int, deviceBytes: UInt64) -> HistoryTable<UInt8>? {
        others.withLock { others in
            Self.findOrMake(
                &others.counts,
                .rule(bank: bank, number: rule),
                make: { HistoryTable(deviceBytes: deviceBytes) },
                found: { $0.forget() }
            )
        }
    }

    /// When each 4 KiB was written last; nil when there is no memory.
    func writeTimes(deviceBytes: UInt64) -> HistoryTable<UInt64>? {
        others.withLock { others in
            if others.times == nil { others.times = HistoryTable(deviceBytes: deviceBytes) }
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
        guard objects.count < objectsMax, let object = make() else { return nil }
        objects[key] = object
        return object
    }
}

// MARK: Sets of ranges

extension SharedObjects {
    /// The names of the sets that have one, in the order they were made.
    var rangesNames: [String] {
        var found = unsafe [OpaquePointer?](repeating: nil, count: 1 << 16)
        let count = unsafe us_sets_named_ranges(sets, &found, found.count)
        return unsafe found.prefix(count).compactMap { unsafe $0 }.map { set in
            unsafe String(cString: us_ranges_name(set))
        }
    }

    /// The set of that name; nil when there is none.
    func ranges(named name: String) -> OpaquePointer? {
        var name = name
        return name.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe us_sets_find_ranges(sets, $0.baseAddress, $0.count)
            }
        }
    }

    /// The set that a rule's `range = { offset, length }` stands for, one for all queues; its address, nil when
    /// there is no memory.
    ///
    /// - Parameters:
    ///   - rule: its number in the script.
    ///   - bank: as in ``Script/Options/bank``.
    func ruleRanges(_ rule: Int, bank: Int, offset: UInt64, length: UInt64) -> UInt? {
        let set = unsafe others.withLock { others in
            unsafe Self.findOrMake(
                &others.rangesOfRules,
                .rule(bank: bank, number: rule),
                make: { unsafe us_sets_ranges(sets, "", 0) },
                found: { _ in }
            )
        }
        guard let set = unsafe set, unsafe us_ranges_add(set, offset, length) else { return nil }
        return UInt(bitPattern: set)
    }

    /// Empties the sets of ``ruleRanges(_:bank:offset:length:)`` before scripts are loaded into that bank again.
    ///
    /// - Returns: false when there is no memory.
    func clearRuleRanges(bank: Int) -> Bool {
        others.withLock { others in
            unsafe others.rangesOfRules.allSatisfy { owner, set in
                guard case .rule(bank, _) = owner else { return true }
                return unsafe us_ranges_clear(set)
            }
        }
    }

    /// A new anonymous set of one range; its address, nil when there is no memory.
    func makeRanges(offset: UInt64, length: UInt64) -> UInt? {
        guard let set = unsafe us_sets_ranges(sets, "", 0),
            unsafe us_ranges_add(set, offset, length)
        else { return nil }
        return UInt(bitPattern: set)
    }
}
