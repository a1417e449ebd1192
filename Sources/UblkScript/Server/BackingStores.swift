import SystemPackage

/// Where one backing's bytes live, with its owner.
enum BackingStore: Sendable {
    case null
    case memory(MemoryStore)
    case file(FileStore, FileStore.View)

    /// For the IO path: no owners inside.
    var view: Store {
        switch self {
        case .null: .null(NullStore())
        case .memory(let store): .memory(store.view)
        case .file(_, let view): .file(view)
        }
    }
}

/// All backings of a device, by number; 0 is the device's own.
///
/// Opened once by the server, shared by all queues.
struct BackingStores: Sendable {
    private(set) var stores: [BackingStore] = []
    /// In the order of ``FileStore/View/file``.
    private(set) var files: [FileStore] = []
    /// Of the device.
    private(set) var sizeBytes: UInt64 = 0
    private let newFiles: NewFiles

    /// Opens what the configuration asks for.
    ///
    /// - Throws: ``FileStore/Problem``, ``DeviceError``. Nothing that existed is changed, what was
    ///   made is in `newFiles`.
    init(_ config: DeviceConfig, newFiles: NewFiles) throws {
        self.newFiles = newFiles
        for backing in config.backings {
            stores.append(try open(file: backing.file, sizeBytes: backing.sizeBytes, config))
        }
        let own = try own(config)
        sizeBytes = try Self.deviceSize(config, own)
        stores.insert(own, at: 0)
    }

    private mutating func own(_ config: DeviceConfig) throws -> BackingStore {
        if config.ownBacking != 0 { return stores[config.ownBacking - 1] }
        if config.backing == .null { return .null }
        return try open(file: config.file, sizeBytes: config.sizeBytes, config)
    }

    private mutating func open(
        file: String?,
        sizeBytes: UInt64?,
        _ config: DeviceConfig
    ) throws -> BackingStore {
        guard let file else { return .memory(try MemoryStore(sizeBytes: sizeBytes ?? 0)) }
        let store = try FileStore(
            path: file,
            sizeBytes: sizeBytes,
            readOnly: config.isReadOnly,
            newFiles: newFiles
        )
        files.append(store)
        let view = FileStore.View(
            writesThrough: !config.hasVolatileCache,
            file: Int32(files.count - 1),
            sizeBytes: store.sizeBytes,
            dataBytes: UInt64(config.maxIOBytes)
        )
        return .file(store, view)
    }

    private static func deviceSize(
        _ config: DeviceConfig,
        _ own: BackingStore
    ) throws(DeviceError) -> UInt64 {
        guard case .file(let store, _) = own else { return config.sizeBytes ?? 0 }
        let block = UInt64(config.logicalBlockBytes)
        let size = config.sizeBytes ?? store.sizeBytes / block * block
        guard size >= block else {
            throw .unsupported(
                "backing file \(store.path) has \(store.sizeBytes) bytes, not one block of \(block)"
            )
        }
        guard size <= store.sizeBytes else {
            throw .unsupported(
                "\(FileStore.Problem.tooSmall(path: store.path, has: store.sizeBytes, needs: size))"
            )
        }
        return size
    }

}
