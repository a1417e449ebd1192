import SystemPackage

extension BackingStore {
    /// Opens what the configuration asks for.
    ///
    /// - Returns: the store and the size of the device.
    /// - Throws: ``FileStore/Problem``, ``DeviceError``. Nothing that existed is changed.
    static func open(_ config: DeviceConfig) throws -> (BackingStore, sizeBytes: UInt64) {
        switch config.backing {
        case .null: return (.null, config.sizeBytes ?? 0)
        case .memory:
            let size = config.sizeBytes ?? 0
            do { return (.memory(try MemoryStore(sizeBytes: size)), size) } catch {
                throw DeviceError.unsupported(
                    """
                    memory backing: \(Quantity.text(bytes: size)) cannot be mapped (\(error.name)). \
                    See: sysctl vm.overcommit_memory (2 forbids it), ulimit -v
                    """
                )
            }
        case .file:
            let store = try FileStore(
                path: config.file ?? "",
                sizeBytes: config.sizeBytes,
                readOnly: config.isReadOnly
            )
            let block = UInt64(config.logicalBlockBytes)
            let size = config.sizeBytes ?? store.sizeBytes / block * block
            guard size >= block else {
                throw DeviceError.unsupported(
                    "backing file \(store.path) has \(store.sizeBytes) bytes, not one block of \(block)"
                )
            }
            return (.file(store, writesThrough: !config.hasVolatileCache), size)
        }
    }
}
