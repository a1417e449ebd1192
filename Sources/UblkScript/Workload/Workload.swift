/// The plan of a simulated application: how many requests, of which kinds, at which offsets.
///
/// A plan only; ``RequestStream`` makes the requests. What the device does not offer is left out,
/// as the block layer would: no FLUSH without a volatile cache, no write to a read-only device.
struct Workload: Equatable, Sendable {
    enum Pattern: String, Sendable { case random, sequential }

    /// Number of requests in all.
    var requests = 100_000
    /// Requests in flight at a time; at most the queue's depth.
    var depth = 32
    /// Relative frequency of each op.
    var weights: [IOOp: UInt64] = Self.mixed
    var pattern = Pattern.random
    /// Lengths are multiples of this, and offsets too.
    var blockBytes: UInt64 = 4096
    var blockBytesMax: UInt64 = 4096
    /// How many requests a second the application makes, about; 0: each as soon as there is a place for it.
    var rate: UInt64 = 0
    /// No request is made later than that; nil: until there have been enough.
    var nanoseconds: UInt64?
    /// The bytes of the device that are used: `spanBytes` (nil: up to the end) from `offsetBytes` on.
    var spanBytes: UInt64?
    var offsetBytes: UInt64 = 0
    /// Seed of the random choices; nil: the device's seed.
    var seed: UInt64?
    /// Number of applications that do the same, each at offsets of its own; their requests alternate.
    var streams = 1
    /// A list of requests that replaces random ones; nil: random ones.
    var list: [SimulatedRequest]?
    /// What is done before the request of that number in the list is made, or when all are.
    var steps: [Int: [WorkloadStep]] = [:]

    static let mixed: [IOOp: UInt64] = [
        .read: 50, .write: 40, .flush: 4, .discard: 3, .writeZeroes: 3,
    ]

    init() {}

    /// A workload of exactly these requests.
    init(_ list: [SimulatedRequest], depth: Int = 1) {
        self.list = list
        self.depth = depth
        requests = list.count
    }

    /// Reads the names that fio has: read, write, rw, randread, randwrite, randrw; and mixed.
    ///
    /// - Returns: nil for any other.
    init?(named name: String) {
        switch name {
        case "mixed": break
        case "read", "randread": weights = [.read: 1]
        case "write", "randwrite": weights = [.write: 1]
        case "rw", "readwrite", "randrw": weights = [.read: 1, .write: 1]
        default: return nil
        }
        pattern = ["read", "write", "rw", "readwrite"].contains(name) ? .sequential : .random
    }

    static let names = ["mixed", "read", "write", "rw", "randread", "randwrite", "randrw"]

    /// The step between places: what the oracle counts versions by.
    func unitBytes(logicalBlockBytes: UInt32) -> UInt64 {
        list == nil && (blockBytes | offsetBytes) % 4096 == 0 ? 4096 : UInt64(logicalBlockBytes)
    }

    /// How long a place for a request stays empty, on average; nil: as short as can be.
    var gapNanoseconds: UInt64? {
        rate == 0 ? nil : UInt64(depth) * 1_000_000_000 / rate
    }

    /// Checks the block sizes against a device.
    func check(_ config: DeviceConfig, sizeBytes: UInt64) throws(ConfigError) {
        if list != nil { return }
        let logical = UInt64(config.logicalBlockBytes)
        func refuse(_ text: String) -> ConfigError { ConfigError(origin: "--bs", text: text) }
        guard blockBytes != 0, blockBytes % logical == 0, blockBytesMax % blockBytes == 0 else {
            throw refuse("multiples of the logical block (\(logical) bytes) are expected")
        }
        guard blockBytes <= blockBytesMax, blockBytesMax <= UInt64(config.maxIOBytes) else {
            throw refuse("at most max_io (\(config.maxIOBytes) bytes) is expected")
        }
        guard blockBytesMax <= sizeBytes else {
            throw refuse("\(blockBytesMax) bytes do not fit the device")
        }
        guard requests > 0, depth > 0 else {
            throw ConfigError(origin: "--ops, --depth", text: "at least 1 is expected")
        }
    }
}

/// The requests of a ``Workload`` on one device, one after the other.
struct RequestStream: Sendable {
    private let workload: Workload
    private let config: DeviceConfig
    /// Size of the bytes of the device that the workload uses.
    private let sizeBytes: UInt64
    /// Each op with the sum of the weights up to it.
    private let ops: [(op: IOOp, upTo: UInt64)]
    /// The random stream of the application whose turn it is, and the streams of all.
    private var random: SplitMix64
    private var randoms: [SplitMix64]
    private var made = 0
    private var nextOffset: UInt64 = 0
    private var nextOffsets: [UInt64]
    private var steps: [Int: [WorkloadStep]]

    init(_ workload: Workload, config: DeviceConfig, sizeBytes: UInt64, seed: UInt64) {
        self.workload = workload
        self.config = config
        let sizeBytes = workload.spanBytes ?? sizeBytes
        self.sizeBytes = sizeBytes
        let own = workload.seed ?? seed
        random = SplitMix64(seed: own, stream: 1)
        // Others in this program have the numbers between.
        randoms = (0..<workload.streams).map {
            SplitMix64(seed: own, stream: $0 == 0 ? 1 : 1000 + UInt64($0))
        }
        nextOffsets = Array(repeating: 0, count: workload.streams)
        steps = workload.steps
        var sum: UInt64 = 0
        var ops: [(op: IOOp, upTo: UInt64)] = []
        for op in IOOp.allCases {
            guard let weight = workload.weights[op], weight != 0 else { continue }
            guard Self.isOffered(op, config, sizeBytes, workload) else { continue }
            sum += weight
            ops.append((op, sum))
        }
        // A read-only device under a writing workload is read.
        self.ops = ops.isEmpty ? [(.read, 1)] : ops
    }

    private static func isOffered(
        _ op: IOOp,
        _ config: DeviceConfig,
        _ sizeBytes: UInt64,
        _ workload: Workload
    ) -> Bool {
        switch op {
        case .read: true
        case .write: !config.isReadOnly
        case .flush: config.hasVolatileCache
        case .discard: !config.isReadOnly && fits(config.discard, sizeBytes, workload)
        case .writeZeroes: !config.isReadOnly && fits(config.writeZeroes, sizeBytes, workload)
        }
    }

    private static func fits(
        _ limits: DeviceParams.Limits?,
        _ sizeBytes: UInt64,
        _ workload: Workload
    ) -> Bool {
        guard let limits else { return false }
        let step = max(UInt64(limits.granularityBytes), workload.blockBytes)
        return step <= sizeBytes && step <= limits.maxBytes
    }

    /// The next request, nil when there have been enough.
    mutating func next() -> SimulatedRequest? {
        guard made < workload.requests else { return nil }
        made += 1
        if let list = workload.list { return list[made - 1] }
        let stream = (made - 1) % workload.streams
        (random, nextOffset) = (randoms[stream], nextOffsets[stream])
        defer { (randoms[stream], nextOffsets[stream]) = (random, nextOffset) }
        return make()
    }

    /// What is to be done before the next request, or at the end; once.
    mutating func takeSteps() -> [WorkloadStep] {
        steps.isEmpty ? [] : steps.removeValue(forKey: made) ?? []
    }

    private mutating func make() -> SimulatedRequest {
        let op = pickOp()
        switch op {
        case .flush: return SimulatedRequest(op: .flush)
        case .read, .write: return transfer(op)
        case .discard: return clearing(op, config.discard)
        case .writeZeroes: return clearing(op, config.writeZeroes)
        }
    }

    private mutating func pickOp() -> IOOp {
        let total = ops.last?.upTo ?? 1
        let pick = random.below(total)
        return ops.first { pick < $0.upTo }?.op ?? .read
    }

    private mutating func transfer(_ op: IOOp) -> SimulatedRequest {
        var request = SimulatedRequest(op: op)
        (request.offsetBytes, request.lengthBytes) = place(
            step: workload.blockBytes,
            lengthMax: workload.blockBytesMax
        )
        // As the block layer cuts it; the rest of it is not sent.
        let chunk = UInt64(config.chunkBytes)
        if chunk != 0 {
            request.lengthBytes = min(request.lengthBytes, chunk - request.offsetBytes % chunk)
        }
        if random.below(8) == 0 { request.flags.insert(SimulatedRequest.metaFlag) }
        if op == .write, config.hasFUA, random.below(8) == 0 { request.flags.insert(.fua) }
        return request
    }

    private mutating func clearing(
        _ op: IOOp,
        _ limits: DeviceParams.Limits?
    ) -> SimulatedRequest {
        // The block layer cuts discards to whole granules before the driver sees them.
        let granule = UInt64(limits?.granularityBytes ?? 0)
        let step = max(op == .discard ? granule : 0, workload.blockBytes)
        let most = max(step, min(workload.blockBytesMax, limits?.maxBytes ?? .max) / step * step)
        var request = SimulatedRequest(op: op)
        (request.offsetBytes, request.lengthBytes) = place(step: step, lengthMax: most)
        if op == .writeZeroes, random.below(2) == 0 { request.flags.insert(.noUnmap) }
        return request
    }

    /// A place for up to `lengthMax` bytes, in steps.
    private mutating func place(step: UInt64, lengthMax: UInt64) -> (UInt64, UInt64) {
        let wanted = (1 + random.below(lengthMax / step)) * step
        let steps = sizeBytes / step
        var offset = random.below(steps) * step
        if workload.pattern == .sequential {
            offset = nextOffset / step * step
            if offset >= steps * step { offset = 0 }
        }
        let length = min(wanted, steps * step - offset)
        nextOffset = offset + length
        return (workload.offsetBytes + offset, length)
    }
}
