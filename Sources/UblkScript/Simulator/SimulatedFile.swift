import SystemPackage

/// What goes wrong with a simulated backing file, by chance or always.
struct FileFaults: Equatable, Sendable {
    /// A read or write does only a part of its bytes.
    var shortChance = 0.0
    /// An operation ends with EINTR or EAGAIN and is to be sent again.
    var retryChance = 0.0
    /// Kinds of operation the filesystem does not have, with what it answers.
    var refused: [FileOperation.Kind: Errno] = [:]
    /// Kinds of operation that fail.
    var failing: [FileOperation.Kind: Errno] = [:]
    /// The file ends here: reads get 0 bytes at its end.
    var endBytes: UInt64?
}

/// A backing file in memory: what the kernel would do with the operations that a queue sends.
///
/// An operation happens as a whole when it completes, so data a queue changes before that is caught
/// by the oracle.
struct SimulatedFile {
    private let memory: MemoryStore
    /// What a power loss takes; nil: nothing, as every write is durable.
    let image: VolatileImage?
    private let faults: FileFaults
    private var random: SplitMix64
    /// How often each kind was asked for.
    private(set) var asked: [FileOperation.Kind: Int] = [:]

    init(_ memory: MemoryStore, isVolatile: Bool, faults: FileFaults, seed: UInt64) {
        self.memory = memory
        image = isVolatile ? VolatileImage(memory.view) : nil
        self.faults = faults
        random = SplitMix64(seed: seed, stream: 2)
    }

    /// - Parameter buffer: the request's, from the operation's first byte.
    /// - Returns: bytes, 0, or a negative errno.
    mutating func perform(
        _ operation: FileOperation,
        _ buffer: UnsafeMutableRawPointer
    ) -> Int32 {
        asked[operation.kind, default: 0] += 1
        if faults.retryChance > 0, random.chance(faults.retryChance) {
            let again: Errno = random.below(2) == 0 ? .interrupted : .resourceTemporarilyUnavailable
            return -again.rawValue
        }
        if let errno = faults.refused[operation.kind] ?? faults.failing[operation.kind] {
            return -errno.rawValue
        }
        switch operation.kind {
        case .read, .write, .writeDurably: return unsafe transfer(operation, buffer)
        case .sync:
            image?.flush()
            return 0
        case .punchHole, .zeroRange:
            image?.willClear(at: operation.offsetBytes, length: operation.lengthBytes)
            memory.view.clear(at: operation.offsetBytes, length: operation.lengthBytes)
            return 0
        }
    }

    private mutating func transfer(
        _ operation: FileOperation,
        _ buffer: UnsafeMutableRawPointer
    ) -> Int32 {
        precondition(operation.lengthBytes > 0, "a transfer of nothing")
        var length = operation.lengthBytes
        let steps = length / UInt64(BlockStamp.bytes)
        if faults.shortChance > 0, steps > 1, random.chance(faults.shortChance) {
            length = (1 + random.below(steps - 1)) * UInt64(BlockStamp.bytes)
        }
        if let end = faults.endBytes, operation.kind == .read {
            length = operation.offsetBytes >= end ? 0 : min(length, end - operation.offsetBytes)
        }
        if operation.kind == .read {
            unsafe memory.view.read(at: operation.offsetBytes, length: length, into: buffer)
        } else {
            unsafe image?.willWrite(
                at: operation.offsetBytes,
                UnsafeRawBufferPointer(start: buffer, count: Int(length)),
                isDurable: operation.kind == .writeDurably
            )
            unsafe memory.view.write(at: operation.offsetBytes, length: length, from: buffer)
        }
        return Int32(clamping: length)
    }
}

extension DeviceStores<SimulatedFile> {
    /// The stores of a simulated device: memory stands in for the user's files, which are neither opened nor needed.
    ///
    /// A file without a given size has ``Simulation/fileBytes``.
    init(_ config: DeviceConfig, fileFaults: FileFaults, seed: UInt64) throws {
        try self.init(config) { request in
            let sizeBytes = request.sizeBytes ?? max(request.leastBytes, Simulation.fileBytes)
            let memory = try MemoryStore(sizeBytes: sizeBytes)
            let file = SimulatedFile(
                memory,
                isVolatile: config.hasVolatileCache,
                faults: fileFaults,
                seed: seed
            )
            return (file, sizeBytes)
        }
    }
}
