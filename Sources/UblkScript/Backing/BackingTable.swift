/// The backings of a device as one queue works on them, by number: 0 is the device's own.
///
/// At fixed addresses, so that choosing one for an IO is a load. Queue thread only.
@safe
struct BackingTable: ~Copyable {
    // Safety: `count` entries, freed in deinit; numbers are checked against it.
    private let entries: UnsafeMutablePointer<Backing>
    let count: Int

    init(_ backings: [Backing]) {
        count = backings.count
        unsafe entries = .allocate(capacity: max(1, count))
        for (index, backing) in backings.enumerated() {
            unsafe (entries + index).initialize(to: backing)
        }
    }

    deinit { unsafe entries.deallocate() }

    @inline(__always)
    subscript(_ number: Int) -> Backing {
        get {
            precondition(number < count)
            return unsafe entries[number]
        }
        nonmutating set {
            precondition(number < count)
            unsafe entries[number] = newValue
        }
    }
}
