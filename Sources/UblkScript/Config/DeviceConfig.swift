/// What `device{}` and the command line ask for, checked: every value in its range, every default
/// filled in.
struct DeviceConfig: Sendable, Equatable {
    enum BackingKind: String, Sendable { case null, memory, file }
    /// What happens to an IO whose handler raised an error.
    enum ErrorPolicy: String, Sendable, CaseIterable { case fail, pass, stop }

    /// Size of the device in bytes; nil: the size of ``file``.
    var sizeBytes: UInt64?
    var file: String?
    /// Devices of other servers may have the file of the device's own bytes, too.
    var isShared = false
    var backing = BackingKind.memory
    /// The backings declared by `backing{}`, in file order.
    var backings: [BackingConfig] = []
    /// Number of the declared backing that holds the device's own bytes, from 1; 0: none of them does.
    var ownBacking = 0
    var queues: UInt16 = 1
    var depth: UInt16 = 128
    var maxIOBytes: UInt32 = 512 << 10
    /// Distance between two io descriptors.
    var descriptorBytes = DeviceInfo.descriptorBytesUsual
    /// nil: the server chooses.
    var data: DataMode?
    /// How much memory programs can share with the server.
    var sharedBytes: UInt64 = 16 << 20
    var logicalBlockBytes: UInt32 = 512
    var physicalBlockBytes: UInt32 = 4096
    var ioMinBytes: UInt32 = 4096
    var ioOptBytes: UInt32 = 0
    /// Reads and writes do not cross multiples of this, bytes; 0: they may.
    var chunkBytes: UInt32 = 0
    var hasVolatileCache = false
    var hasFUA = false
    var discard: DeviceParams.Limits?
    var writeZeroes: DeviceParams.Limits?
    var isRotational = false
    var isReadOnly = false
    var scansPartitions = true
    var recovery = Recovery.off
    /// Seed of all random choices; nil: one is picked at random.
    var seed: UInt64?
    var onError = ErrorPolicy.fail
    var budgetNanoseconds: UInt64 = 50_000_000
    var scriptMemoryBytes: UInt64 = 64 << 20
    /// All memory of the server is there before the first IO, and stays there.
    var locksMemory = false
    /// The ledger also records every IO that a target's handler redirects.
    var recordsMapping = false
    /// Number of records that the ledger of a queue keeps.
    var ledgerRecords = Ledger.usualCapacity

    /// The script is a block target: its handlers decide where data is stored, rather than only what happens to it.
    ///
    /// It says so by a `backing{}`, or by `backing = "null"`, which stores nothing itself.
    var isTarget: Bool { !backings.isEmpty || backing == .null }

    /// The parameters for the driver.
    ///
    /// - Parameter sizeBytes: the device's size, known once the backing is open.
    func params(sizeBytes: UInt64) -> DeviceParams {
        var params = DeviceParams(sizeBytes: sizeBytes)
        params.logicalBlockBytes = logicalBlockBytes
        params.physicalBlockBytes = physicalBlockBytes
        params.ioMinBytes = ioMinBytes
        params.ioOptBytes = ioOptBytes
        params.chunkBytes = chunkBytes
        params.maxIOBytes = maxIOBytes
        params.readOnly = isReadOnly
        params.rotational = isRotational
        params.volatileCache = hasVolatileCache
        params.fua = hasFUA
        params.discard = discard
        params.writeZeroes = writeZeroes
        return params
    }

    /// The keys of `device{}`, in the order of docs/scripting.md.
    static let keys = [
        "size", "file", "shared", "backing", "queues", "depth", "max_io", "io_desc_size", "data",
        "shared_memory", "logical_block_size",
        "physical_block_size", "io_min", "io_opt", "chunk_size", "cache", "fua", "discard",
        "write_zeroes",
        "rotational", "read_only", "partitions", "recovery", "seed", "on_error", "budget", "memory",
        "lock_memory",
        "ledger", "ledger_size",
    ]
}

extension DeviceConfig {
    /// The largest device: 1 EiB, so that sums of a byte offset and a length stay within 63 bits.
    static let sizeMax: UInt64 = 1 << 60

    /// The size up to which a device of `sizeBytes` can be made to grow: 8 times that, or 1 TiB when that is more.
    ///
    /// Addresses for what grows with it are set aside from the beginning.
    static func reachBytes(of sizeBytes: UInt64) -> UInt64 {
        max(sizeBytes, min(max(8 * min(sizeBytes, sizeMax), 1 << 40), 1 << 46))
    }
    /// The largest `max_io`: a user-copy offset has 25 bits for the offset inside a request, so 32 MiB is the driver's
    /// limit in any mode.
    static let maxIOMax: UInt64 = 32 << 20
    /// The range of `ledger_size`; a record takes less than 200 bytes, and each queue has its own records.
    static let ledgerRange: ClosedRange<Int64> = 16...1_048_576

    /// Checks settings and fills in defaults.
    ///
    /// Later settings replace earlier ones of the same key.
    init(_ settings: [Setting], backings: [BackingConfig] = []) throws(ConfigError) {
        self.backings = backings
        var byKey: [String: Setting] = [:]
        for setting in settings {
            guard Self.keys.contains(setting.key) else {
                throw ConfigError(
                    origin: setting.origin,
                    text: "device has no key \"\(setting.key)\". It has: "
                        + Self.keys.joined(separator: ", ")
                )
            }
            byKey[setting.key] = setting
        }
        try readStore(byKey)
        try readRecovery(byKey)
        try readShape(byKey)
        try readLimits(byKey)
        try readCache(byKey)
        try readOps(byKey)
        try readScript(byKey)
        try checkSize(byKey)
    }

    private mutating func readStore(_ settings: [String: Setting]) throws(ConfigError) {
        if let setting = settings["size"] { sizeBytes = try setting.bytes(512...Self.sizeMax) }
        if let setting = settings["file"] {
            file = try setting.text()
            backing = .file
        }
        if let setting = settings["backing"], case .backing(let number) = setting.value {
            try useBacking(number, origin: setting.origin, file: settings["file"])
        } else if let setting = settings["backing"] {
            let kind = try setting.choice(["memory", "file", "null"])
            backing = BackingKind(rawValue: kind) ?? .memory
            if backing == .file, file == nil {
                throw setting.refused("file = \"PATH\" beside backing = \"file\"")
            }
            if backing != .file, let file = settings["file"] {
                throw ConfigError(
                    origin: file.origin,
                    text: "file is of no use with backing = \"\(kind)\""
                )
            }
        }
        if let setting = settings["shared"] { try readShared(setting) }
        if let setting = settings["read_only"] { isReadOnly = try setting.bool() }
        if let setting = settings["rotational"] { isRotational = try setting.bool() }
        if let setting = settings["partitions"] { scansPartitions = try setting.bool() }
    }

    /// Reads `backing = b`: the device's own store is a declared backing.
    private mutating func useBacking(
        _ number: Int,
        origin: String,
        file setting: Setting?
    ) throws(ConfigError) {
        guard number > 0 else {
            throw ConfigError(
                origin: origin,
                text:
                    "backing = backing(): that is the device's own itself; give one of backing{...}"
            )
        }
        let own = backings[number - 1]
        if let setting {
            throw ConfigError(
                origin: setting.origin,
                text: "file is of no use with backing = a backing object: give the file there"
            )
        }
        ownBacking = number
        file = own.file
        isShared = own.isShared
        backing = own.file == nil ? .memory : .file
        sizeBytes = sizeBytes ?? own.sizeBytes
        if let size = own.sizeBytes, let wanted = sizeBytes, wanted > size {
            throw ConfigError(
                origin: own.origin,
                text: "the backing has \(Quantity.text(bytes: size)), "
                    + "the device needs \(Quantity.text(bytes: wanted))"
            )
        }
    }

    private mutating func readShared(_ setting: Setting) throws(ConfigError) {
        let isWanted = try setting.bool()
        guard ownBacking == 0 else {
            throw setting.refused("shared in the backing{} that has the file,")
        }
        if isWanted, file == nil { throw setting.refused("file = \"PATH\" beside it") }
        isShared = isWanted
    }

    private mutating func readShape(_ settings: [String: Setting]) throws(ConfigError) {
        if let setting = settings["queues"] {
            queues = UInt16(try setting.integer(1...Int64(DeviceInfo.queuesMax)))
        }
        if let setting = settings["depth"] {
            depth = UInt16(try setting.integer(1...Int64(DeviceInfo.depthMax)))
        }
        if let setting = settings["max_io"] {
            maxIOBytes = UInt32(try setting.bytes(Self.pageBytes...Self.maxIOMax))
            guard UInt64(maxIOBytes) % Self.pageBytes == 0 else {
                throw setting.refused("a multiple of the page size (\(Self.pageBytes))")
            }
        }
        if let setting = settings["io_desc_size"] {
            let range = DeviceInfo.descriptorBytesUsual...DeviceInfo.descriptorBytesMax
            descriptorBytes = UInt16(
                try setting.integer(Int64(range.lowerBound)...Int64(range.upperBound))
            )
            guard descriptorBytes % 8 == 0 else { throw setting.refused("a multiple of 8") }
        }
        if let setting = settings["data"] {
            let word = try setting.choice(["auto"] + DataMode.allCases.map(\.rawValue))
            data = DataMode(rawValue: word)
            // The driver answers ADD_DEV with EINVAL: its list of tags that wait has two places at least.
            if data?.isBatched == true, depth < 2 {
                throw (settings["depth"] ?? setting).refused("2 or more beside data = \"\(word)\"")
            }
        }
        if let setting = settings["shared_memory"] { try readSharedMemory(setting) }
    }

    private mutating func readSharedMemory(_ setting: Setting) throws(ConfigError) {
        // The driver's limit for one buffer.
        sharedBytes = try setting.bytes(Self.pageBytes...(4 << 30))
        guard sharedBytes % Self.pageBytes == 0 else {
            throw setting.refused("a multiple of the page size (\(Self.pageBytes))")
        }
        guard data == .sharedMemory else {
            throw setting.refused("data = \"shared_memory\" beside it")
        }
    }

    private mutating func readLimits(_ settings: [String: Setting]) throws(ConfigError) {
        if let setting = settings["logical_block_size"] {
            logicalBlockBytes = try setting.powerOfTwo(512...Self.pageBytes)
        }
        physicalBlockBytes = max(physicalBlockBytes, logicalBlockBytes)
        if let setting = settings["physical_block_size"] {
            physicalBlockBytes = try setting.powerOfTwo(UInt64(logicalBlockBytes)...(256 << 20))
        }
        ioMinBytes = physicalBlockBytes
        if let setting = settings["io_min"] {
            ioMinBytes = try setting.powerOfTwo(UInt64(logicalBlockBytes)...(256 << 20))
        }
        if let setting = settings["io_opt"] {
            ioOptBytes = try setting.powerOfTwo(UInt64(ioMinBytes)...(256 << 20))
        }
        if let setting = settings["chunk_size"] {
            chunkBytes = try setting.powerOfTwo(Self.pageBytes...(256 << 20))
        }
    }

    /// Some store is a file, so that a flush has something to do.
    var hasFile: Bool { backing == .file || backings.contains { $0.file != nil } }

    private mutating func readCache(_ settings: [String: Setting]) throws(ConfigError) {
        hasVolatileCache = hasFile
        if let setting = settings["cache"] {
            hasVolatileCache = try setting.choice(["volatile", "none"]) == "volatile"
        }
        hasFUA = hasVolatileCache && hasFile
        guard let setting = settings["fua"] else { return }
        hasFUA = try setting.bool()
        // The driver silently ignores FUA without a volatile cache.
        if hasFUA, !hasVolatileCache { throw setting.refused("cache = \"volatile\" beside it") }
    }

    private mutating func readOps(_ settings: [String: Setting]) throws(ConfigError) {
        discard = try limits(settings["discard"])
        writeZeroes = try limits(settings["write_zeroes"])
    }

    /// Reads `true`, `false` or `{ granularity = ..., max = ... }`; nil when the operation is off.
    private func limits(_ setting: Setting?) throws(ConfigError) -> DeviceParams.Limits? {
        // The driver's limits are 32-bit numbers of sectors; 1 GiB keeps the work of one request bounded.
        var limits = DeviceParams.Limits(
            granularityBytes: max(logicalBlockBytes, 4096),
            maxBytes: 1 << 30
        )
        guard let setting else { return limits }
        guard case .table = setting.value else {
            return try setting.bool() ? limits : nil
        }
        // The driver has one granularity, that of discards.
        let isDiscard = setting.key == "discard"
        guard let parts = setting.parts(named: isDiscard ? ["granularity", "max"] : ["max"]) else {
            let keys = isDiscard ? "granularity = ..., max = ..." : "max = ..."
            throw setting.refused("true, false or { \(keys) }")
        }
        var step = UInt64(isDiscard ? limits.granularityBytes : logicalBlockBytes)
        for part in parts {
            if part.key == "granularity" {
                limits.granularityBytes = try part.powerOfTwo(
                    UInt64(logicalBlockBytes)...(256 << 20)
                )
                step = UInt64(limits.granularityBytes)
            } else {
                // The kernel ignores less than a granule, and cuts the rest to whole granules.
                limits.maxBytes = try part.bytes(step...(1 << 40))
                guard limits.maxBytes % step == 0 else {
                    throw part.refused("a multiple of \(Quantity.text(bytes: step))")
                }
            }
        }
        return limits
    }

    private mutating func readScript(_ settings: [String: Setting]) throws(ConfigError) {
        if let setting = settings["seed"] {
            seed = try setting.seed()
        }
        if let setting = settings["on_error"] {
            let policy = try setting.choice(ErrorPolicy.allCases.map(\.rawValue))
            onError = ErrorPolicy(rawValue: policy) ?? .fail
        }
        if let setting = settings["budget"] {
            budgetNanoseconds = try setting.nanoseconds(1_000_000...5_000_000_000)
        }
        if let setting = settings["memory"] {
            scriptMemoryBytes = try setting.scriptMemory()
        }
        if let setting = settings["lock_memory"] { locksMemory = try setting.bool() }
        if let setting = settings["ledger"] {
            recordsMapping = try setting.choice(["faults", "all"]) == "all"
        }
        if let setting = settings["ledger_size"] {
            ledgerRecords = Int(try setting.integer(Self.ledgerRange))
        }
    }

    private func checkSize(_ settings: [String: Setting]) throws(ConfigError) {
        guard let sizeBytes else {
            guard backing != .file else { return }
            throw ConfigError(
                origin: settings["backing"]?.origin ?? "device",
                text: "size is missing: write device { size = \"1G\" }, or give size=1G"
            )
        }
        guard sizeBytes % UInt64(logicalBlockBytes) == 0 else {
            throw settings["size"]?.refused(
                "a multiple of the logical block (\(logicalBlockBytes) bytes)"
            )
                ?? ConfigError(origin: "device", text: "size is not whole blocks")
        }
    }
}

extension DeviceConfig {
    /// The machine's page size: the smallest `max_io` and the largest `logical_block_size`.
    static var pageBytes: UInt64 { UInt64(SystemPage.bytes) }
}

extension Setting {
    /// The value of the key `seed`.
    func seed() throws(ConfigError) -> UInt64 { UInt64(try integer(0...Int64.max)) }

    /// The value of the key `memory`: the memory limit of a Lua state, bytes.
    func scriptMemory() throws(ConfigError) -> UInt64 { try bytes((256 << 10)...(64 << 30)) }
}
