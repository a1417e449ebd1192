/// One queue's stores, by number; 0 is the device's own.
///
/// At fixed addresses, so that choosing a store for an IO is one load. Queue thread only.
@safe
struct StoreTable: ~Copyable {
    // Safety: `count` entries, freed in deinit; numbers are checked against it.
    private let entries: UnsafeMutablePointer<Store>
    let count: Int

    init(_ stores: [Store]) {
        count = stores.count
        unsafe entries = .allocate(capacity: max(1, count))
        for (index, store) in stores.enumerated() {
            unsafe (entries + index).initialize(to: store)
        }
    }

    deinit { unsafe entries.deallocate() }

    @inline(__always)
    subscript(_ number: Int) -> Store {
        _read {
            precondition(number < count)
            yield unsafe entries[number]
        }
        nonmutating _modify {
            precondition(number < count)
            yield unsafe &entries[number]
        }
    }
}
