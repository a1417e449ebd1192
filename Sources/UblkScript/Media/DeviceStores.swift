/// All stores of a device, by number; 0 is the device's own.
///
/// Made once, before the queues, by the server or the simulator, which differ only in what a `File` is. Keeps memory
/// and files alive for the queues, which work on ``views``. A new kind of store is a case of ``Owner``, a case of
/// ``Store``, and a file of its own. A copy has the same stores. One thread at a time; the ``views`` are the queues'.
struct DeviceStores<File> {
    private enum Owner: Sendable {
        case null
        case memory(MemoryStore)
        case kept(KeptStore)
        case file(FileStore.View)

        var view: Store {
            switch self {
            case .null: .null(NullStore())
            case .memory(let memory): .memory(memory.view)
            case .kept(let kept): .kept(kept.view)
            case .file(let view): .file(view)
            }
        }
    }

    private var owners: [Owner] = []
    /// The files, indexed by ``FileStore/View/file``.
    private(set) var files: [File] = []
    /// Size of the device in bytes.
    private(set) var sizeBytes: UInt64 = 0

    /// A file that a store asks for.
    struct FileRequest {
        let path: String
        /// Size of the store in bytes; nil: the size of the file.
        let sizeBytes: UInt64?
        /// The least size that the device needs; 0: any.
        let leastBytes: UInt64
        /// Devices of other servers may have it, too.
        let isShared: Bool
    }

    /// Makes the store in memory of that number and size, which outlives the server.
    typealias Keep = (_ number: Int, _ sizeBytes: UInt64) throws -> KeptStore

    /// Makes the stores that the configuration asks for.
    ///
    /// - Parameters:
    ///   - reachBytes: how far memory of the device's own may grow; 0: not at all.
    ///   - keep: makes those in memory; nil: they end with this process.
    ///   - open: opens or makes a file, and returns it with its size.
    /// - Throws: any error of `open` and `keep`, ``MemoryStore/NoMemory``, ``FileStore/Problem``. The caller removes
    ///   the files that `open` has made.
    init(
        _ config: DeviceConfig,
        reachBytes: UInt64 = 0,
        keep: Keep? = nil,
        open: (FileRequest) throws -> (file: File, sizeBytes: UInt64)
    ) throws {
        let least = config.sizeBytes ?? 0
        for (index, backing) in config.backings.enumerated() {
            guard let file = backing.file else {
                owners.append(try Self.memory(index + 1, backing.sizeBytes ?? 0, keep: keep))
                continue
            }
            let isOwn = index + 1 == config.ownBacking
            let bytes = (backing.sizeBytes, isOwn ? least : 0)
            owners.append(try owner(file, bytes, backing.isShared, config, open))
        }
        let own: Owner
        if config.ownBacking != 0 {
            own = owners[config.ownBacking - 1]
        } else if config.backing == .null {
            own = .null
        } else if let file = config.file {
            own = try owner(file, (config.sizeBytes, least), config.isShared, config, open)
        } else {
            own = try Self.memory(0, config.sizeBytes ?? 0, reachBytes: reachBytes, keep: keep)
        }
        owners.insert(own, at: 0)
        sizeBytes = try deviceSize(config, own)
    }

    /// The stores for queues, by number, which hold no references.
    var views: [Store] { owners.map(\.view) }

    private static func memory(
        _ number: Int,
        _ sizeBytes: UInt64,
        reachBytes: UInt64 = 0,
        keep: Keep?
    ) throws -> Owner {
        if let keep { return .kept(try keep(number, sizeBytes)) }
        return .memory(try MemoryStore(sizeBytes: sizeBytes, reachBytes: reachBytes))
    }

    /// The stores in memory that outlive the server.
    var kept: [KeptStore] {
        var found: [KeptStore] = []
        for case .kept(let store) in owners where !found.contains(where: { $0 === store }) {
            found.append(store)
        }
        return found
    }

    /// The stores in memory that end with it.
    var memories: [MemoryStore] {
        var found: [MemoryStore] = []
        for case .memory(let memory) in owners where !found.contains(where: { $0 === memory }) {
            found.append(memory)
        }
        return found
    }

    /// The file that has the device's own bytes; nil when they are not in a file.
    var ownFile: File? {
        if case .file(let view) = owners[0] { files[Int(view.file)] } else { nil }
    }

    /// Gives the device another size.
    ///
    /// Its own store grows with it when it has to, and never becomes smaller. Not for a device whose own store is a
    /// declared backing.
    ///
    /// - Parameter grow: makes a file larger.
    /// - Returns: the size of its own store in bytes; nil: it has none.
    mutating func resize(
        to sizeBytes: UInt64,
        grow: (File, UInt64) throws -> Void
    ) throws -> UInt64? {
        switch owners[0] {
        case .null: break
        case .memory(let memory): try memory.grow(to: sizeBytes)
        case .kept(let kept): try kept.grow(to: sizeBytes)
        case .file(var view) where view.sizeBytes < sizeBytes:
            try grow(files[Int(view.file)], sizeBytes)
            view.sizeBytes = sizeBytes
            owners[0] = .file(view)
        case .file: break
        }
        self.sizeBytes = sizeBytes
        return owners[0].view.sizeBytes
    }

    private mutating func owner(
        _ path: String,
        _ bytes: (size: UInt64?, least: UInt64),
        _ isShared: Bool,
        _ config: DeviceConfig,
        _ open: (FileRequest) throws -> (file: File, sizeBytes: UInt64)
    ) throws -> Owner {
        let opened = try open(
            FileRequest(
                path: path,
                sizeBytes: bytes.size,
                leastBytes: bytes.least,
                isShared: isShared
            )
        )
        files.append(opened.file)
        return .file(
            FileStore.View(
                writesThrough: !config.hasVolatileCache,
                file: Int32(files.count - 1),
                sizeBytes: opened.sizeBytes,
                dataBytes: UInt64(config.maxIOBytes)
            )
        )
    }

    private func deviceSize(
        _ config: DeviceConfig,
        _ own: Owner
    ) throws(FileStore.Problem) -> UInt64 {
        guard case .file(let view) = own else { return config.sizeBytes ?? 0 }
        let block = UInt64(config.logicalBlockBytes)
        let size = config.sizeBytes ?? view.sizeBytes / block * block
        let path = config.file ?? ""
        guard size >= block else {
            throw .noBlock(path: path, has: view.sizeBytes, blockBytes: block)
        }
        guard size <= view.sizeBytes else {
            throw .tooSmall(path: path, has: view.sizeBytes, needs: size)
        }
        return size
    }
}

extension DeviceStores: Sendable where File: Sendable {}

extension DeviceStores<FileStore> {
    /// Makes the stores of a real device: opens its files, or makes them.
    ///
    /// - Parameters:
    ///   - keep: see ``init(_:reachBytes:keep:open:)``
    ///   - newFiles: is told of files that are made; nil: none are. Existing files are not changed.
    init(_ config: DeviceConfig, keep: Keep? = nil, newFiles: NewFiles?) throws {
        let reachBytes = config.sizeBytes.map(DeviceConfig.reachBytes) ?? 0
        try self.init(config, reachBytes: reachBytes, keep: keep) { request in
            let file = try FileStore(
                path: request.path,
                sizeBytes: request.sizeBytes,
                claim: FileClaim(isShared: request.isShared, isReadOnly: config.isReadOnly),
                newFiles: newFiles
            )
            return (file, file.sizeBytes)
        }
    }
}
