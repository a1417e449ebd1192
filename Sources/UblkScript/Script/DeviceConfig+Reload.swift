/// The settings of a reload: those that the device runs with, and new ones.
struct ReloadSettings {
    /// The settings given to this reload.
    let new: [Setting]
    /// The settings for the plan of the script.
    let planned: [Setting]
    /// The settings that the next reload starts from, each key once.
    let remembered: [Setting]

    /// - Parameters:
    ///   - isOther: the script is replaced by another one; then only settings of `device{}` are kept.
    ///   - running: the settings that the device runs with.
    ///   - sizeBytes: the device's size, which replaces the default size of a shipped script.
    init(
        _ source: ScriptSource,
        isOther: Bool,
        running: [Setting],
        new: [Setting],
        sizeBytes: UInt64
    ) {
        let kept = running.filter { !isOther || DeviceConfig.keys.contains($0.key) }
        let size = Setting(key: "size", value: .string("\(sizeBytes)"), origin: "device")
        self.new = new
        planned = kept + (source.isShipped ? [size] : []) + new
        let all = kept + new
        remembered = all.enumerated().filter { index, setting in
            !all[(index + 1)...].contains { $0.key == setting.key }
        }.map(\.element)
    }
}

// What a reload may not change: the driver's parameters, the stores, and the seed, which the ledger and the record name
// for the whole life of the device.

extension DeviceConfig {
    /// A key whose value differs from that of the running device.
    struct Difference {
        let key: String
        let running: String
        let wanted: String
    }

    /// The first key that differs from the running device and that a reload may not change; nil when there is none.
    ///
    /// `on_error`, `budget`, `memory` and `ledger` may change.
    ///
    /// - Parameter isAsked: false for keys that are ignored.
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

    /// The running configuration, with the values of this one for the keys that may change.
    func fitted(to running: DeviceConfig) -> DeviceConfig {
        var result = running
        result.onError = onError
        result.budgetNanoseconds = budgetNanoseconds
        result.scriptMemoryBytes = scriptMemoryBytes
        result.recordsMapping = recordsMapping
        return result
    }

    private static let fixed: [(key: String, text: @Sendable (DeviceConfig) -> String)] = [
        ("backing", { "\($0.backing.rawValue) \($0.ownBacking == 0 ? "" : "\($0.ownBacking)")" }),
        (
            "backing{}",
            {
                "\($0.backings.count) backings (\($0.backings.map(describe).joined(separator: ", ")))"
            }
        ),
        ("file", { $0.file ?? "none" }),
        ("shared", { "\($0.isShared)" }),
        ("size", { $0.sizeBytes.map { Quantity.text(bytes: $0) } ?? "that of the file" }),
        ("queues", { "\($0.queues)" }),
        ("depth", { "\($0.depth)" }),
        ("max_io", { Quantity.text(bytes: UInt64($0.maxIOBytes)) }),
        ("io_desc_size", { "\($0.descriptorBytes)" }),
        ("data", { $0.data?.rawValue ?? "auto" }),
        ("shared_memory", { Quantity.text(bytes: $0.sharedBytes) }),
        ("logical_block_size", { "\($0.logicalBlockBytes)" }),
        ("physical_block_size", { "\($0.physicalBlockBytes)" }),
        ("io_min", { "\($0.ioMinBytes)" }),
        ("io_opt", { "\($0.ioOptBytes)" }),
        ("chunk_size", { "\($0.chunkBytes)" }),
        ("cache", { $0.hasVolatileCache ? "volatile" : "none" }),
        ("fua", { "\($0.hasFUA)" }),
        ("discard", { limits($0.discard) }),
        ("write_zeroes", { limits($0.writeZeroes) }),
        ("rotational", { "\($0.isRotational)" }),
        ("read_only", { "\($0.isReadOnly)" }),
        ("partitions", { "\($0.scansPartitions)" }),
        ("recovery", { $0.recovery.rawValue }),
        ("lock_memory", { "\($0.locksMemory)" }),
        ("ledger_size", { "\($0.ledgerRecords)" }),
        ("seed", { $0.seed.map { "\($0)" } ?? "none" }),
    ]

    private static func describe(_ backing: BackingConfig) -> String {
        let size = backing.sizeBytes.map { Quantity.text(bytes: $0) }
        let shared = backing.isShared ? "shared" : nil
        return [backing.file ?? "memory", size, shared].compactMap { $0 }.joined(separator: " ")
    }

    private static func limits(_ limits: DeviceParams.Limits?) -> String {
        limits.map { "\($0)" } ?? "off"
    }
}
