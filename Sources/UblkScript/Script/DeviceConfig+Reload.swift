/// What a reload may not change: everything the driver was told, where the data is, and the seed, which
/// the ledger and the state file name for the whole life of the device.
extension DeviceConfig {
    /// One key in which `self` is not what the running device is.
    struct Difference {
        let key: String
        let running: String
        let wanted: String
    }

    /// The first key in which a running device would have to become another one; nil: there is none.
    ///
    /// What may change is `on_error`, `budget` and `memory`.
    ///
    /// - Parameter isAsked: whether a key is looked at.
    func difference(
        from running: DeviceConfig,
        where isAsked: (_ key: String) -> Bool = { _ in true }
    ) -> Difference? {
        for (key, text) in Self.fixed where isAsked(key) {
            let (was, wanted) = (text(running), text(self))
            if was != wanted { return Difference(key: key, running: was, wanted: wanted) }
        }
        return nil
    }

    /// The running device's, but for what may change.
    func fitted(to running: DeviceConfig) -> DeviceConfig {
        var result = running
        result.onError = onError
        result.budgetNanoseconds = budgetNanoseconds
        result.scriptMemoryBytes = scriptMemoryBytes
        return result
    }

    private static let fixed: [(key: String, text: @Sendable (DeviceConfig) -> String)] = [
        ("backing", { "\($0.backing.rawValue) \($0.ownBacking == 0 ? "" : "\($0.ownBacking)")" }),
        ("backing{}", { "\($0.backings.count) backings \($0.backings.map(\.file))" }),
        ("file", { $0.file ?? "none" }),
        ("size", { $0.sizeBytes.map { Quantity.text(bytes: $0) } ?? "that of the file" }),
        ("queues", { "\($0.queues)" }),
        ("depth", { "\($0.depth)" }),
        ("max_io", { Quantity.text(bytes: UInt64($0.maxIOBytes)) }),
        ("logical_block_size", { "\($0.logicalBlockBytes)" }),
        ("physical_block_size", { "\($0.physicalBlockBytes)" }),
        ("io_min", { "\($0.ioMinBytes)" }),
        ("io_opt", { "\($0.ioOptBytes)" }),
        ("cache", { $0.hasVolatileCache ? "volatile" : "none" }),
        ("fua", { "\($0.hasFUA)" }),
        ("discard", { limits($0.discard) }),
        ("write_zeroes", { limits($0.writeZeroes) }),
        ("rotational", { "\($0.isRotational)" }),
        ("read_only", { "\($0.isReadOnly)" }),
        ("partitions", { "\($0.scansPartitions)" }),
        ("seed", { $0.seed.map { "\($0)" } ?? "none" }),
    ]

    private static func limits(_ limits: DeviceParams.Limits?) -> String {
        limits.map { "\($0)" } ?? "off"
    }
}
