import CLua
import Synchronization

/// A set of byte ranges, which all queues of a device share.
///
/// Readers: any queue between ``RangeRegistry/online(_:)`` and ``RangeRegistry/offline(_:)``, without a lock.
/// Editors: one at a time, under the registry's lock; they need not be online. While there can be no readers (one
/// queue, or none has started) edits are made in place. Otherwise each makes a new leaf of some hundreds of intervals
/// and a new directory, which it publishes by one atomic store.
///
/// A lookup is O(log n). Every edit replaces the intervals between two positions by at most two new ones
/// (`RangeEdit.swift`).
@safe
struct RangeSet: Equatable, Sendable {
    // Safety: made here, freed by the registry, which outlives the scripts.
    private nonisolated(unsafe) let content: UnsafeMutablePointer<Content>

    // Safety: `cName` is a NUL-terminated copy of the name, for C; `directory` is the address of a RangeDirectory.
    @safe
    private struct Content: ~Copyable {
        let registry: RangeRegistry
        let directory = unsafe Atomic<UnsafeMutableRawPointer?>(nil)
        let name: String
        let cName: UnsafeMutablePointer<CChar>
        let owner: SharedObjects.Owner?
        /// In the order in which the registry's sets were made, from 0.
        let number: UInt32
    }

    /// For ``RangeRegistry/makeSet(_:of:)`` only, which owns the sets.
    init(
        in registry: RangeRegistry,
        _ name: String,
        _ owner: SharedObjects.Owner?,
        number: UInt32
    ) {
        let bytes = name.utf8CString
        let cName = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        for (index, byte) in bytes.enumerated() { unsafe (cName + index).initialize(to: byte) }
        unsafe content = .allocate(capacity: 1)
        unsafe content.initialize(
            to: Content(
                registry: registry,
                name: name,
                cName: cName,
                owner: owner,
                number: number
            )
        )
    }

    /// - Parameter address: of a live set; 0 makes the initializer fail.
    @inline(__always)
    init?(address: UInt) {
        guard let content = unsafe UnsafeMutablePointer<Content>(bitPattern: address) else {
            return nil
        }
        unsafe self.content = content
    }

    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.content == right.content }

    var address: UInt { unsafe UInt(bitPattern: content) }

    /// The set's name; "" when it has none.
    var name: String { unsafe content.pointee.name }

    /// Frees the set; nothing may use it any more.
    func free(_ pool: inout RangeLeafPool) {
        if let directory = look() {
            directory.dead = 0..<directory.leafCount
            directory.free(&pool)
        }
        unsafe content.pointee.cName.deallocate()
        unsafe content.deinitialize(count: 1)
        unsafe content.deallocate()
    }

    // MARK: Reading

    @inline(__always)
    private func look() -> RangeDirectory? {
        unsafe content.pointee.directory.load(ordering: .sequentiallyConsistent).map {
            unsafe RangeDirectory($0)
        }
    }

    /// True when some interval overlaps the bytes; false for a length of 0 (lock-free).
    @inline(__always)
    func overlaps(_ offset: UInt64, _ length: UInt64) -> Bool {
        guard length > 0, let directory = look() else { return false }
        let (sum, overflow) = offset.addingReportingOverflow(length)
        let end = overflow ? UInt64.max : sum
        let position = directory.firstEndingAfter(offset)
        return position.leaf < directory.leafCount && directory.span(position).start < end
    }

    /// The start of the first interval and the end of the last one; nil when the set is empty (lock-free).
    var hull: (start: UInt64, end: UInt64)? { look()?.hull }

    /// Number of intervals.
    var count: Int { look()?.count ?? 0 }

    var bytes: UInt64 { look()?.bytes ?? 0 }

    /// The interval with that index, nil past the end; for listings, as it takes time in proportion to the leaves.
    func interval(_ index: Int) -> RangeSpan? {
        guard let directory = look(), index < directory.count else { return nil }
        var position = RangeDirectory.Position(leaf: 0, index: index)
        while position.index >= directory.leaf(position.leaf).count {
            position.index -= directory.leaf(position.leaf).count
            position.leaf += 1
        }
        return directory.span(position)
    }

    // MARK: Editing

    /// Adds bytes to the set.
    ///
    /// - Returns: false, with the set unchanged, when there is no memory, there are too many intervals in all sets, or
    ///   the end is past 2^64.
    @discardableResult
    func add(_ offset: UInt64, _ length: UInt64) -> Bool {
        let (end, overflow) = offset.addingReportingOverflow(length)
        guard !overflow, length != 0 else { return !overflow }
        return edit { addNow(offset, end, &$0) }
    }

    /// Removes bytes from the set.
    ///
    /// - Returns: false, with the set unchanged, for the same reasons as ``add(_:_:)``.
    @discardableResult
    func remove(_ offset: UInt64, _ length: UInt64) -> Bool {
        let (end, overflow) = offset.addingReportingOverflow(length)
        guard !overflow, length != 0 else { return !overflow }
        return edit { removeNow(offset, end, &$0) }
    }

    /// Removes all bytes; false, with the set unchanged, when there is no memory.
    func clear() -> Bool {
        edit { state in
            let none = RangeDirectory.Position(leaf: 0, index: 0)
            let all = RangeDirectory.Position(leaf: look()?.leafCount ?? 0, index: 0)
            guard replace(from: none, to: all, by: nil, nil, &state) else { return false }
            unsafe state.note(RangeJournal.Record(.clear, content.pointee.number))
            return true
        }
    }

    @inline(__always)
    private func edit<Result>(_ body: (inout RangeRegistry.State) -> Result) -> Result {
        unsafe content.pointee.registry.edit(body)
    }

    private func addNow(_ start: UInt64, _ end: UInt64, _ state: inout RangeRegistry.State) -> Bool
    {
        var whole = RangeSpan(start: start, end: end)
        var first = RangeDirectory.Position(leaf: 0, index: 0)
        var last = first
        let hull = self.hull
        if let directory = look() {
            // Adjacent intervals are merged too: from the first that ends at `start` or later ...
            first = directory.firstEndingAfter(start > 0 ? start - 1 : 0)
            // ... to the last that starts at `end` or before.
            last =
                end < .max
                ? directory.firstStartingFrom(end + 1)
                : RangeDirectory.Position(leaf: directory.leafCount, index: 0)
            if first < last {
                let (left, right) = (directory.span(first), directory.spanBefore(last))
                if left.start <= start, left.end >= end { return true }
                whole.start = min(left.start, start)
                whole.end = max(right.end, end)
            }
        }
        guard replace(from: first, to: last, by: whole, nil, &state) else { return false }
        unsafe state.note(RangeJournal.Record(.add, content.pointee.number, start, end))
        if let hull, whole.start >= hull.start, whole.end <= hull.end { return true }
        unsafe content.pointee.registry.countGrowth()
        return true
    }

    private func removeNow(
        _ start: UInt64,
        _ end: UInt64,
        _ state: inout RangeRegistry.State
    ) -> Bool {
        guard let directory = look() else { return true }
        let first = directory.firstEndingAfter(start)
        let last = directory.firstStartingFrom(end)
        guard first < last else { return true }
        let (left, right) = (directory.span(first), directory.spanBefore(last))
        let before = left.start < start ? RangeSpan(start: left.start, end: start) : nil
        let behind = right.end > end ? RangeSpan(start: end, end: right.end) : nil
        let isDone = replace(
            from: first,
            to: last,
            by: before ?? behind,
            before != nil ? behind : nil,
            &state
        )
        if isDone {
            unsafe state.note(RangeJournal.Record(.remove, content.pointee.number, start, end))
        }
        return isDone
    }

    /// Tells a new journal of the set, under the registry's lock.
    func write(to journal: RangeJournal) {
        let number = unsafe content.pointee.number
        unsafe journal.append(content.pointee.owner, content.pointee.name, number)
        guard let directory = look() else { return }
        for place in 0..<directory.leafCount {
            let leaf = directory.leaf(place)
            for index in 0..<leaf.count {
                let span = unsafe leaf.spans[index]
                journal.append(RangeJournal.Record(.add, number, span.start, span.end))
            }
        }
    }

    /// Replaces the intervals from `first` up to, but not including, `last` by at most two others.
    private func replace(
        from first: RangeDirectory.Position,
        to last: RangeDirectory.Position,
        by one: RangeSpan?,
        _ other: RangeSpan?,
        _ state: inout RangeRegistry.State
    ) -> Bool {
        let registry = unsafe content.pointee.registry
        let old = look()
        var edit = RangeEdit(
            of: old,
            from: first,
            to: last,
            isExclusive: registry.isExclusive(state)
        )
        guard let new = edit.make(one, other, &state) else { return false }
        if new.directory != old {
            unsafe content.pointee.directory.store(
                new.directory?.address,
                ordering: .sequentiallyConsistent
            )
            if let old { registry.retire(old, &state) }
        }
        return true
    }
}

// MARK: For C

extension RangeSet {
    fileprivate init(_ address: OpaquePointer?) {
        unsafe content = UnsafeMutablePointer(address.unsafelyUnwrapped)
    }

    fileprivate var opaque: OpaquePointer { unsafe OpaquePointer(content) }

    fileprivate var cName: UnsafePointer<CChar> { unsafe UnsafePointer(content.pointee.cName) }

    /// Reads without a lock on a queue that is online, otherwise under the registry's lock.
    @inline(__always)
    fileprivate func look<Result>(_ isOnline: Bool, _ body: () -> Result) -> Result {
        isOnline ? body() : edit { _ in body() }
    }

    /// Copies at most `room` intervals, under the lock.
    ///
    /// - Returns: the number of intervals in the set.
    fileprivate func copy(to list: UnsafeMutablePointer<us_span>?, _ room: Int) -> Int {
        edit { _ in
            guard let directory = look() else { return 0 }
            var done = 0
            for number in 0..<directory.leafCount {
                let leaf = directory.leaf(number)
                var index = 0
                while index < leaf.count, done < room {
                    let span = unsafe leaf.spans[index]
                    unsafe list?[done] = us_span(start: span.start, end: span.end)
                    (index, done) = (index + 1, done + 1)
                }
            }
            return directory.count
        }
    }
}

extension us_ranges_functions {
    static var table: Self {
        unsafe Self(
            named: { shared, name, length in
                unsafe SharedObjects.with(shared) {
                    let bytes = unsafe UnsafeRawBufferPointer(start: name, count: length)
                    return unsafe $0.makeRanges(named: String(decoding: bytes, as: UTF8.self))?
                        .opaque
                }
            },
            anonymous: { shared, bank, queue, number, isKept in
                unsafe SharedObjects.with(shared) {
                    let owner = SharedObjects.Owner.script(
                        bank: Int(bank),
                        queue: queue,
                        number: number
                    )
                    return unsafe (isKept ? $0.makeRanges(of: owner) : $0.emptyRanges(of: owner))?
                        .opaque
                }
            },
            add: { unsafe RangeSet($0).add($1, $2) },
            remove: { unsafe RangeSet($0).remove($1, $2) },
            clear: { unsafe RangeSet($0).clear() },
            overlaps: { set, offset, length, isOnline in
                unsafe RangeSet(set).look(isOnline) {
                    unsafe RangeSet(set).overlaps(offset, length)
                }
            },
            count: { set, isOnline in
                unsafe RangeSet(set).look(isOnline) { unsafe RangeSet(set).count }
            },
            bytes: { set, isOnline in
                unsafe RangeSet(set).look(isOnline) { unsafe RangeSet(set).bytes }
            },
            copy: { unsafe RangeSet($0).copy(to: $1, $2) },
            name: { unsafe RangeSet($0).cName }
        )
    }
}
