/// The backings of a simulated device: memory of their size, files too.
///
/// The user's files are neither opened nor needed.
struct SimulatedBackings {
    /// By number; nil: a null backing.
    private(set) var stores: [MemoryStore?] = []
    /// By number.
    private(set) var views: [Store] = []
    /// In the order of ``FileStore/View/file``.
    private(set) var files: [SimulatedFile] = []

    /// - Throws: ``MemoryStore/NoMemory``.
    init(_ config: DeviceConfig, sizeBytes: UInt64, faults: FileFaults, seed: UInt64) throws {
        for (index, backing) in config.backings.enumerated() {
            let least = index + 1 == config.ownBacking ? sizeBytes : 0
            let size = max(least, backing.sizeBytes ?? Simulation.fileBytes)
            let store = try MemoryStore(sizeBytes: size)
            append(store, isFile: backing.file != nil, config, faults, seed)
        }
        if config.ownBacking != 0 {
            stores.insert(stores[config.ownBacking - 1], at: 0)
            views.insert(views[config.ownBacking - 1], at: 0)
        } else {
            let store = config.backing == .null ? nil : try MemoryStore(sizeBytes: sizeBytes)
            append(store, isFile: config.backing == .file, config, faults, seed)
            stores.insert(stores.removeLast(), at: 0)
            views.insert(views.removeLast(), at: 0)
        }
    }

    private mutating func append(
        _ store: MemoryStore?,
        isFile: Bool,
        _ config: DeviceConfig,
        _ faults: FileFaults,
        _ seed: UInt64
    ) {
        stores.append(store)
        guard let store else { return views.append(.null(NullStore())) }
        guard isFile else { return views.append(.memory(store.view)) }
        let view = FileStore.View(
            writesThrough: !config.hasVolatileCache,
            file: Int32(files.count),
            sizeBytes: store.sizeBytes,
            dataBytes: UInt64(config.maxIOBytes)
        )
        files.append(SimulatedFile(store.view, faults: faults, seed: seed))
        views.append(.file(view))
    }
}
