import CLua
import Glibc
import Synchronization

/// A named hash table (`dict`) that the queues of a device share and that outlives a script.
///
/// Keys are integers and texts, values also booleans and numbers. One lock per table, held briefly by each operation,
/// so handlers of several queues may wait for each other. Lives as long as the shared objects. Any thread.
@safe
struct SharedDict: Sendable {
    // Safety: made and freed by the shared objects.
    private nonisolated(unsafe) let content: UnsafeMutablePointer<Content>

    private struct Content: ~Copyable {
        let table: Mutex<DictTable>
        let usage: DictUsage
    }

    init(_ usage: DictUsage) {
        unsafe content = .allocate(capacity: 1)
        unsafe content.initialize(to: Content(table: Mutex(DictTable()), usage: usage))
    }

    func free() {
        let usage = unsafe content.pointee.usage
        unsafe content.pointee.table.withLock { $0.free(usage) }
        unsafe content.deinitialize(count: 1)
        unsafe content.deallocate()
    }

    /// The value of a key; nil when there is none.
    ///
    /// - Parameter text: room for US_DICT_TEXT_MAX bytes, to which a text is copied.
    fileprivate func get(_ key: DictValue, _ text: UnsafeMutableRawPointer) -> DictValue? {
        let hash = key.hash
        return unsafe content.pointee.table.withLock { table in
            unsafe table.find(hash, key)?.value(copiedTo: text)
        }
    }

    /// Sets the value of a key, or removes the key for US_VALUE_NONE; false when there is no memory or the table would
    /// exceed the limit.
    fileprivate func set(_ key: DictValue, _ value: DictValue) -> Bool {
        let usage = unsafe content.pointee.usage
        let hash = key.hash
        guard value.type != US_VALUE_NONE else {
            unsafe content.pointee.table.withLock { $0.remove(hash, key, usage) }
            return true
        }
        guard let entry = DictEntry(hash, key, value, usage) else { return false }
        return unsafe content.pointee.table.withLock { $0.put(entry, key, usage) }
    }

    /// Adds to the integer of a key, which starts at 0.
    ///
    /// - Returns: the sum; nil when there is no memory, or the value is not an integer.
    fileprivate func add(_ key: DictValue, _ amount: Int64) -> Int64? {
        let usage = unsafe content.pointee.usage
        let hash = key.hash
        let old: Int64?? = unsafe content.pointee.table.withLock { table in
            table.find(hash, key).map { $0.add(amount) }
        }
        if let old { return old }
        guard let entry = DictEntry(hash, key, DictValue(integer: amount), usage) else {
            return nil
        }
        return unsafe content.pointee.table.withLock { table in
            // Another queue may have added the key meanwhile.
            if let other = table.find(hash, key) {
                entry.free(usage)
                return other.add(amount)
            }
            return table.put(entry, key, usage) ? amount : nil
        }
    }

    fileprivate var count: Int { unsafe content.pointee.table.withLock { $0.count } }

    fileprivate func clear() {
        let usage = unsafe content.pointee.usage
        unsafe content.pointee.table.withLock { $0.clear(usage) }
    }
}

/// The memory that all tables of a device use, bytes, with a limit.
///
/// Any thread.
@safe
struct DictUsage: Sendable {
    // Safety: owned by the shared objects, which free it after the tables.
    private nonisolated(unsafe) let bytes: UnsafeMutablePointer<Atomic<Int>>

    init() {
        unsafe bytes = .allocate(capacity: 1)
        unsafe bytes.initialize(to: Atomic(0))
    }

    func free() {
        unsafe bytes.deinitialize(count: 1)
        unsafe bytes.deallocate()
    }

    /// Adds to the usage; false, adding nothing, when the limit would be exceeded.
    fileprivate func charge(_ count: Int) -> Bool {
        let sum = unsafe bytes.pointee.wrappingAdd(count, ordering: .relaxed).newValue
        if sum <= US_DICT_BYTES_MAX { return true }
        discharge(count)
        return false
    }

    fileprivate func discharge(_ count: Int) {
        unsafe bytes.pointee.wrappingSubtract(count, ordering: .relaxed)
    }
}

/// A key or a value: a wrapper of C's `us_value`.
@safe
private struct DictValue: @unchecked Sendable {
    // Safety: its text lives for the call, or as long as the entry.
    private(set) var plain: us_value

    init(_ plain: us_value) { unsafe self.plain = unsafe plain }

    init(integer: Int64) {
        unsafe plain = unsafe us_value()
        unsafe plain.type = US_VALUE_INTEGER
        unsafe plain.integer = integer
    }

    var type: us_value_type { unsafe plain.type }
    private var isText: Bool { type == US_VALUE_TEXT }

    var integer: Int64 {
        get { unsafe plain.integer }
        set { unsafe plain.integer = newValue }
    }

    /// Bytes of a text; 0 for anything else.
    var length: Int { isText ? unsafe plain.length : 0 }

    /// The same value, with its text copied to `room`.
    func copied(to room: UnsafeMutableRawPointer) -> DictValue {
        guard isText else { return self }
        var copy = self
        if length > 0, let text = unsafe plain.text { unsafe memcpy(room, text, length) }
        unsafe copy.plain.text = UnsafePointer(room.assumingMemoryBound(to: CChar.self))
        return copy
    }

    var hash: UInt64 {
        guard !isText else { return unsafe DataHash.of(plain.text, length: UInt64(length)) }
        let product = UInt64(bitPattern: integer) &* 0x9e37_79b9_7f4a_7c15
        return product ^ product >> 32
    }

    /// Compares two keys, which are integers or texts.
    func isSame(as other: DictValue) -> Bool {
        guard type == other.type else { return false }
        guard isText else { return integer == other.integer }
        guard length == other.length else { return false }
        guard let text = unsafe plain.text, let otherText = unsafe other.plain.text else {
            return length == 0
        }
        return unsafe memcmp(text, otherText, length) == 0
    }
}

/// A key and its value, in one allocation that ends with the texts of both.
///
/// Used under the table's lock once it is in a table.
@safe
private struct DictEntry: @unchecked Sendable {
    // Safety: made here, freed by ``free(_:)``.
    private let head: UnsafeMutablePointer<Head>

    private struct Head {
        var next: DictEntry?
        let hash: UInt64
        let key: DictValue
        var value: DictValue
    }

    /// Fails when there is no memory or the limit would be exceeded.
    init?(_ hash: UInt64, _ key: DictValue, _ value: DictValue, _ usage: DictUsage) {
        let size = MemoryLayout<Head>.size + key.length + value.length
        guard usage.charge(size) else { return nil }
        guard let memory = unsafe malloc(size) else {
            usage.discharge(size)
            return nil
        }
        unsafe head = memory.bindMemory(to: Head.self, capacity: 1)
        let text = unsafe memory + MemoryLayout<Head>.size
        unsafe head.initialize(
            to: Head(
                next: nil,
                hash: hash,
                key: key.copied(to: text),
                value: value.copied(to: text + key.length)
            )
        )
    }

    func free(_ usage: DictUsage) {
        usage.discharge(
            unsafe MemoryLayout<Head>.size + head.pointee.key.length + head.pointee.value.length
        )
        unsafe Glibc.free(head)
    }

    var hash: UInt64 { unsafe head.pointee.hash }

    var next: DictEntry? {
        get { unsafe head.pointee.next }
        nonmutating set { unsafe head.pointee.next = newValue }
    }

    func isOf(_ hash: UInt64, _ key: DictValue) -> Bool {
        unsafe head.pointee.hash == hash && head.pointee.key.isSame(as: key)
    }

    func value(copiedTo room: UnsafeMutableRawPointer) -> DictValue {
        unsafe head.pointee.value.copied(to: room)
    }

    /// Adds to the value and returns the sum; nil when the value is not an integer.
    func add(_ amount: Int64) -> Int64? {
        guard unsafe head.pointee.value.type == US_VALUE_INTEGER else { return nil }
        unsafe head.pointee.value.integer &+= amount
        return unsafe head.pointee.value.integer
    }
}

/// The entries of one table: a hash table with chaining, used under the table's lock.
@safe
private struct DictTable: ~Copyable, @unchecked Sendable {
    // Safety: `chainCount` chains, freed by ``free(_:)``.
    private var chains: UnsafeMutablePointer<DictEntry?>?
    /// Number of chains: a power of two, or 0 before the first entry.
    private var chainCount = 0
    private(set) var count = 0

    mutating func free(_ usage: DictUsage) {
        clear(usage)
        unsafe Glibc.free(chains)
        unsafe chains = nil
    }

    private static var linkBytes: Int { MemoryLayout<DictEntry?>.stride }

    private func chain(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: hash) & (chainCount &- 1) }

    func find(_ hash: UInt64, _ key: DictValue) -> DictEntry? {
        guard let chains = unsafe chains else { return nil }
        var next = unsafe chains[chain(hash)]
        while let entry = next, !entry.isOf(hash, key) { next = entry.next }
        return next
    }

    /// Adds an entry, in place of one with the same key; without memory for chains frees it and returns false.
    mutating func put(_ entry: DictEntry, _ key: DictValue, _ usage: DictUsage) -> Bool {
        if count >= chainCount { grow(usage) }
        guard let chains = unsafe chains else {
            entry.free(usage)
            return false
        }
        remove(entry.hash, key, usage)
        let chain = chain(entry.hash)
        entry.next = unsafe chains[chain]
        unsafe chains[chain] = entry
        count += 1
        return true
    }

    mutating func remove(_ hash: UInt64, _ key: DictValue, _ usage: DictUsage) {
        guard let chains = unsafe chains, let entry = find(hash, key) else { return }
        let chain = chain(hash)
        if var before = unsafe chains[chain], !before.isOf(hash, key) {
            while let next = before.next, !next.isOf(hash, key) { before = next }
            before.next = entry.next
        } else {
            unsafe chains[chain] = entry.next
        }
        entry.free(usage)
        count -= 1
    }

    mutating func clear(_ usage: DictUsage) {
        guard let chains = unsafe chains else { return }
        for chain in 0..<chainCount {
            while let entry = unsafe chains[chain] {
                unsafe chains[chain] = entry.next
                entry.free(usage)
            }
        }
        count = 0
    }

    /// Doubles the number of chains; without memory for that, the present ones get longer.
    private mutating func grow(_ usage: DictUsage) {
        let newCount = chainCount == 0 ? 16 : chainCount * 2
        guard usage.charge(newCount * Self.linkBytes) else { return }
        guard let memory = unsafe calloc(newCount, Self.linkBytes) else {
            usage.discharge(newCount * Self.linkBytes)
            return
        }
        let new = unsafe memory.bindMemory(to: DictEntry?.self, capacity: newCount)
        let old = unsafe chains
        let oldCount = chainCount
        unsafe chains = new
        chainCount = newCount
        if let old = unsafe old {
            for place in 0..<oldCount {
                while let entry = unsafe old[place] {
                    unsafe old[place] = entry.next
                    let chain = chain(entry.hash)
                    entry.next = unsafe new[chain]
                    unsafe new[chain] = entry
                }
            }
        }
        usage.discharge(oldCount * Self.linkBytes)
        unsafe Glibc.free(old)
    }
}

extension SharedDict {
    /// - Parameter address: of a live table, not nil.
    fileprivate init(_ address: OpaquePointer?) {
        unsafe content = UnsafeMutablePointer(address.unsafelyUnwrapped)
    }

    fileprivate var address: OpaquePointer { unsafe OpaquePointer(content) }
}

extension us_dict_functions {
    static var table: Self {
        unsafe Self(
            named: { shared, name, length in
                unsafe SharedObjects.with(shared) {
                    unsafe $0.dict(UnsafeRawBufferPointer(start: name, count: length))?.address
                }
            },
            get: { dict, key, value, text in
                let key = unsafe DictValue(key.unsafelyUnwrapped.pointee)
                guard let found = unsafe SharedDict(dict).get(key, text.unsafelyUnwrapped) else {
                    return false
                }
                unsafe value?.pointee = found.plain
                return true
            },
            set: { dict, key, value in
                let key = unsafe DictValue(key.unsafelyUnwrapped.pointee)
                return unsafe SharedDict(dict).set(key, DictValue(value.unsafelyUnwrapped.pointee))
            },
            add: { dict, key, amount, sum in
                let key = unsafe DictValue(key.unsafelyUnwrapped.pointee)
                guard let new = unsafe SharedDict(dict).add(key, amount) else { return false }
                unsafe sum?.pointee = new
                return true
            },
            count: { unsafe SharedDict($0).count },
            clear: { unsafe SharedDict($0).clear() }
        )
    }
}
