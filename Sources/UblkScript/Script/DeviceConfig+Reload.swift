/// The settings that a reload goes by: those that the device runs with, and new ones.
struct ReloadSettings {
    let new: [Setting]
    /// For the plan of the script.
    let planned: [Setting]
    /// For the next reload; of each key the latest.
    let remembered: [Setting]

    /// - Parameters:
    ///   - isOther: the script is another one than the running: of that one's settings those of `device{}` stay.
    ///   - sizeBytes: the device's, for a shipped script, whose own is only a proposal.
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

/// What a reload may not change: everything the driver was told, where the data is, and the seed, which
/// the ledger and the state file name for the whole life of the device.
extension DeviceConfig {
    /// A key whose value differs from that of the running device.
    struct Difference {
        let key: String
        let running: String
        let wanted: String
    }

    /// The first key in which a running device would have to become another one; nil: there is none.
    ///
    /// What may change is `on_error`, `budget`, `memory` and `ledger`.
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
        ("size", { $0.sizeBytes.map { Quantity.text(bytes: $0) } ?? "that of the file" }),
        ("queues", { "\($0.queues)" }),
        ("depth", { "\($0.depth)" }),
        ("max_io", { Quantity.text(bytes: UInt64($0.maxIOBytes)) }),
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
        ("ledger_size", { "\($0.ledgerRecords)" }),
        ("seed", { $0.seed.map { "\($0)" } ?? "none" }),
    ]

    private static func describe(_ backing: BackingConfig) -> String {
        let size = backing.sizeBytes.map { Quantity.text(bytes: $0) }
        return [backing.file ?? "memory", size].compactMap { $0 }.joined(separator: " ")
    }

    private static func limits(_ limits: DeviceParams.Limits?) -> String {
        limits.map { "\($0)" } ?? "off"
    }
}
