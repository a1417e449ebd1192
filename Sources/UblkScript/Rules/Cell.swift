import CLua
import Glibc
import Synchronization

/// A named number that all queues of a device share: a counter, a mark, or the number of the device's state.
///
/// One atomic at a fixed address that lives as long as the shared objects, so a rule keeps the cell and reads it
/// without a lock or a lookup. Any thread.
@safe
struct Cell: Equatable, Sendable {
    // Safety: made and freed by a CellTable, which goes with the shared objects.
    private nonisolated(unsafe) let content: UnsafeMutablePointer<Content>

    // Safety: `name` has `nameLength` bytes and a NUL.
    @safe
    fileprivate struct Content: ~Copyable {
        let value = Atomic<Int64>(0)
        /// Nanoseconds on the device's clock at which a mark was last set; unused for the other kinds.
        let time = Atomic<UInt64>(0)
        let number: UInt32
        let name: UnsafeMutablePointer<CChar>
        let nameLength: Int
    }

    /// Fails when there is no memory.
    fileprivate init?(name: UnsafeRawBufferPointer, number: UInt32) {
        guard let copy = unsafe malloc(name.count + 1) else { return nil }
        let bytes = unsafe copy.bindMemory(to: CChar.self, capacity: name.count + 1)
        if let start = name.baseAddress { unsafe memcpy(copy, start, name.count) }
        unsafe bytes[name.count] = 0
        unsafe content = .allocate(capacity: 1)
        unsafe content.initialize(
            to: Content(number: number, name: bytes, nameLength: name.count)
        )
    }

    fileprivate func free() {
        unsafe Glibc.free(content.pointee.name)
        unsafe content.deinitialize(count: 1)
        unsafe content.deallocate()
    }

    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.content == right.content }

    @inline(__always)
    var value: Int64 { unsafe content.pointee.value.load(ordering: .relaxed) }

    @inline(__always)
    func set(_ value: Int64) { unsafe content.pointee.value.store(value, ordering: .relaxed) }

    /// Adds with wraparound and returns the new value.
    func add(_ value: Int64) -> Int64 {
        unsafe content.pointee.value.wrappingAdd(value, ordering: .relaxed).newValue
    }

    /// Sets a mark: counts it and notes the time.
    ///
    /// - Parameter time: nanoseconds on the device's clock.
    /// - Returns: how often the mark has been set.
    @discardableResult
    func mark(at time: UInt64) -> Int64 {
        unsafe content.pointee.time.store(time, ordering: .relaxed)
        return add(1)
    }

    var time: UInt64 { unsafe content.pointee.time.load(ordering: .relaxed) }

    /// The cell's number among those of its kind, from 1, in the order they were made.
    var number: UInt32 { unsafe content.pointee.number }

    var name: String { unsafe String(cString: content.pointee.name) }

    fileprivate var cName: UnsafeMutablePointer<CChar> { unsafe content.pointee.name }

    fileprivate func isNamed(_ name: UnsafeRawBufferPointer) -> Bool {
        guard unsafe content.pointee.nameLength == name.count else { return false }
        guard let start = name.baseAddress else { return true }
        return unsafe memcmp(content.pointee.name, start, name.count) == 0
    }
}

/// The cells of a device: one per kind and name, never removed.
///
/// Owned by ``SharedObjects`` and guarded by its lock. A hash table with open addressing, which only grows. A lookup
/// allocates nothing, because a handler looks its marks up by name on the IO path.
struct CellTable: ~Copyable {
    private struct Slot {
        var hash: UInt64 = 0
        var kind: UInt32 = 0
        /// The cell in this slot; nil when the slot is empty.
        var cell: Cell?
    }

    /// The number of slots is a power of two, and at least half of them are empty.
    private var slots = [Slot](repeating: Slot(), count: 16)
    private var count = 0
    /// All cells, indexed by `us_cell_kind` and then by number - 1.
    private var numbered: [[Cell]] = [[], [], [], []]

    deinit {
        for slot in slots { slot.cell?.free() }
    }

    private static func hash(_ kind: us_cell_kind, _ name: UnsafeRawBufferPointer) -> UInt64 {
        unsafe DataHash.of(name.baseAddress, length: UInt64(name.count)) &+ UInt64(kind.rawValue)
    }

    /// The index of the slot that has the cell, or of the empty one where it would go.
    private func slotIndex(
        _ hash: UInt64,
        where isCell: (Slot) -> Bool
    ) -> Int {
        let mask = slots.count - 1
        var index = Int(truncatingIfNeeded: hash) & mask
        while slots[index].cell != nil, slots[index].hash != hash || !isCell(slots[index]) {
            index = (index &+ 1) & mask
        }
        return index
    }

    func find(_ kind: us_cell_kind, _ name: UnsafeRawBufferPointer) -> Cell? {
        let index = slotIndex(unsafe Self.hash(kind, name)) { slot in
            unsafe slot.kind == kind.rawValue && slot.cell?.isNamed(name) == true
        }
        return slots[index].cell
    }

    /// The cell of that kind and number, nil when there is none.
    func at(_ kind: us_cell_kind, number: UInt32) -> Cell? {
        let cells = numbered[Int(kind.rawValue)]
        return number != 0 && number <= cells.count ? cells[Int(number) - 1] : nil
    }

    /// The cell of that kind and name, made with 0 when there is none yet; nil when it cannot be.
    mutating func findOrMake(_ kind: us_cell_kind, _ name: UnsafeRawBufferPointer) -> Cell? {
        if let cell = unsafe find(kind, name) { return cell }
        guard name.count <= US_NAME_BYTES_MAX, count < US_OBJECTS_MAX else { return nil }
        let number = UInt32(numbered[Int(kind.rawValue)].count + 1)
        guard let cell = unsafe Cell(name: name, number: number) else { return nil }
        if 2 * count >= slots.count { grow() }
        let hash = unsafe Self.hash(kind, name)
        slots[slotIndex(hash) { _ in false }] = Slot(hash: hash, kind: kind.rawValue, cell: cell)
        numbered[Int(kind.rawValue)].append(cell)
        count += 1
        return cell
    }

    private mutating func grow() {
        let old = slots
        slots = [Slot](repeating: Slot(), count: old.count * 2)
        for slot in old where slot.cell != nil { slots[slotIndex(slot.hash) { _ in false }] = slot }
    }
}

extension Cell {
    /// - Parameter address: of a cell, not nil.
    fileprivate init(_ address: OpaquePointer?) {
        unsafe content = UnsafeMutablePointer(address.unsafelyUnwrapped)
    }

    fileprivate var address: OpaquePointer { unsafe OpaquePointer(content) }
}

extension us_cell_functions {
    static var table: Self {
        unsafe Self(
            of: { shared, kind, name, length in
                unsafe SharedObjects.with(shared) {
                    unsafe $0.cell(kind, UnsafeRawBufferPointer(start: name, count: length))?
                        .address
                }
            },
            at: { shared, kind, number in
                unsafe SharedObjects.with(shared) { unsafe $0.cell(kind, number: number)?.address }
            },
            value: { unsafe Cell($0).value },
            set: { unsafe Cell($0).set($1) },
            add: { unsafe Cell($0).add($1) },
            mark: { unsafe Cell($0).mark(at: $1) },
            number: { unsafe Cell($0).number },
            name: { unsafe UnsafePointer(Cell($0).cName) }
        )
    }
}
