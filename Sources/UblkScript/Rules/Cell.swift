import CLua
import Glibc
import Synchronization

/// A named number that all queues of a device share: a counter, a mark, or the number of the device's state.
///
/// One atomic at a fixed address that lives as long as the shared objects, so a rule keeps the cell and reads it
/// without a lock or a lookup. Any thread.
@safe
struct Cell: Equatable, Sendable {
    // Safety: in a slot of a CellTable, which goes with the shared objects.
    private nonisolated(unsafe) let content: UnsafeMutablePointer<Content>

    // Safety: in its slot `nameLength` bytes and a NUL follow it.
    @safe
    fileprivate struct Content: ~Copyable {
        let value = Atomic<Int64>(0)
        /// Nanoseconds on the device's clock at which a mark was last set; unused for the other kinds.
        let time = Atomic<UInt64>(0)
        let number: UInt32
        let nameLength: UInt32
        /// `us_cell_kind` + 1, which is set when all else is; 0: there is no cell here.
        let kind = Atomic<UInt32>(0)
    }

    /// Makes a cell in an empty slot.
    fileprivate init(
        _ kind: us_cell_kind,
        _ name: UnsafeRawBufferPointer,
        number: UInt32,
        in slot: CellTable.Slot
    ) {
        unsafe content = slot.start.bindMemory(to: Content.self, capacity: 1)
        unsafe content.initialize(to: Content(number: number, nameLength: UInt32(name.count)))
        let text = unsafe slot.start + MemoryLayout<Content>.size
        if let start = name.baseAddress { unsafe memcpy(text, start, name.count) }
        unsafe text.storeBytes(of: 0, toByteOffset: name.count, as: UInt8.self)
        unsafe content.pointee.kind.store(kind.rawValue + 1, ordering: .releasing)
    }

    /// The cell that an earlier process has made in the slot; nil: none.
    fileprivate init?(foundIn slot: CellTable.Slot) {
        unsafe content = slot.start.bindMemory(to: Content.self, capacity: 1)
        guard unsafe content.pointee.kind.load(ordering: .acquiring) != 0 else { return nil }
    }

    fileprivate var kind: UInt32 {
        unsafe content.pointee.kind.load(ordering: .relaxed) &- 1
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

    var name: String { unsafe String(cString: cName) }

    fileprivate var cName: UnsafePointer<CChar> {
        let text = unsafe UnsafeRawPointer(content) + MemoryLayout<Content>.size
        return unsafe text.assumingMemoryBound(to: CChar.self)
    }

    fileprivate var nameBytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: cName, count: Int(content.pointee.nameLength))
    }

    fileprivate func isNamed(_ name: UnsafeRawBufferPointer) -> Bool {
        guard unsafe content.pointee.nameLength == name.count else { return false }
        guard let start = name.baseAddress else { return true }
        return unsafe memcmp(cName, start, name.count) == 0
    }
}

/// The cells of a device: one per kind and name, never removed.
///
/// Owned by ``SharedObjects`` and guarded by its lock. A hash table with open addressing, which only grows. A lookup
/// allocates nothing, because a handler looks its marks up by name on the IO path.
///
/// The cells themselves are in slots of memory, which may be a file: then the next server of the device finds them
/// there, one after the other.
struct CellTable: ~Copyable {
    private struct Place {
        var hash: UInt64 = 0
        /// The cell in this place; nil when it is empty.
        var cell: Cell?
    }

    /// Where a cell and its name are.
    @safe
    fileprivate struct Slot {
        // Safety: ``bytes`` bytes, zeroes or a cell.
        let start: UnsafeMutableRawPointer
        static let bytes = 128
    }

    /// The number of places is a power of two, and at least half of them are empty.
    private var places = [Place](repeating: Place(), count: 16)
    private var count = 0
    /// All cells, indexed by `us_cell_kind` and then by number - 1.
    private var numbered: [[Cell]] = [[], [], [], []]
    /// nil: slots are made one by one.
    private let file: MappedFile?

    /// Another number whenever a slot means something else.
    static let layout = 1
    /// The sizes of a file of cells: from the first slot, which has none, to all that there may be.
    static let fileBytes = growthBytes...Slot.bytes * (US_OBJECTS_MAX + 1)
    private static let growthBytes = 4096

    /// - Parameter file: where the cells are, of ``fileBytes``: none at first, or those of an earlier process.
    init(in file: MappedFile? = nil) {
        self.file = file
        while let slot = slotInFile(count + 1, growing: false), let cell = Cell(foundIn: slot),
            numbered.indices.contains(Int(cell.kind))
        { add(cell) }
    }

    deinit {
        guard file == nil else { return }
        for place in places { place.cell?.free() }
    }

    /// The slot of a file with that number, nil past its end.
    private func slotInFile(_ number: Int, growing: Bool) -> Slot? {
        guard let file else { return nil }
        let end = (number + 1) * Slot.bytes
        if end > file.count {
            guard growing, file.grow(to: file.count + Self.growthBytes) else { return nil }
        }
        return unsafe Slot(start: file.bytes + number * Slot.bytes)
    }

    /// An empty slot; nil when there is no memory.
    private func newSlot() -> Slot? {
        if file != nil { return slotInFile(count + 1, growing: true) }
        return unsafe calloc(1, Slot.bytes).map { unsafe Slot(start: $0) }
    }

    private mutating func add(_ cell: Cell) {
        if 2 * count >= places.count { grow() }
        let kind = us_cell_kind(rawValue: cell.kind)
        let hash = unsafe Self.hash(kind, cell.nameBytes)
        places[placeIndex(hash) { _ in false }] = Place(hash: hash, cell: cell)
        numbered[Int(cell.kind)].append(cell)
        count += 1
    }

    private static func hash(_ kind: us_cell_kind, _ name: UnsafeRawBufferPointer) -> UInt64 {
        unsafe DataHash.of(name.baseAddress, length: UInt64(name.count)) &+ UInt64(kind.rawValue)
    }

    /// The index of the place that has the cell, or of the empty one where it would go.
    private func placeIndex(
        _ hash: UInt64,
        where isCell: (Cell) -> Bool
    ) -> Int {
        let mask = places.count - 1
        var index = Int(truncatingIfNeeded: hash) & mask
        while let cell = places[index].cell, places[index].hash != hash || !isCell(cell) {
            index = (index &+ 1) & mask
        }
        return index
    }

    func find(_ kind: us_cell_kind, _ name: UnsafeRawBufferPointer) -> Cell? {
        let index = placeIndex(unsafe Self.hash(kind, name)) { cell in
            unsafe cell.kind == kind.rawValue && cell.isNamed(name)
        }
        return places[index].cell
    }

    /// The cell of that kind and number, nil when there is none.
    func at(_ kind: us_cell_kind, number: UInt32) -> Cell? {
        let cells = numbered[Int(kind.rawValue)]
        return number != 0 && number <= cells.count ? cells[Int(number) - 1] : nil
    }

    /// The cell of that kind and name, made with 0 when there is none yet; nil when it cannot be.
    mutating func findOrMake(_ kind: us_cell_kind, _ name: UnsafeRawBufferPointer) -> Cell? {
        if let cell = unsafe find(kind, name) { return cell }
        guard name.count <= US_NAME_BYTES_MAX, count < US_OBJECTS_MAX, let slot = newSlot() else {
            return nil
        }
        let number = UInt32(numbered[Int(kind.rawValue)].count + 1)
        let cell = unsafe Cell(kind, name, number: number, in: slot)
        add(cell)
        return cell
    }

    private mutating func grow() {
        let old = places
        places = [Place](repeating: Place(), count: old.count * 2)
        for place in old where place.cell != nil {
            places[placeIndex(place.hash) { _ in false }] = place
        }
    }
}

extension Cell {
    /// Frees its slot.
    fileprivate func free() { unsafe Glibc.free(content) }

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
            name: { unsafe Cell($0).cName }
        )
    }
}
