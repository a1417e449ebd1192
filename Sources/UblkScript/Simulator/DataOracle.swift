/// Compares every read with the data that it may return, and counts the blocks that differ.
///
/// A block's versions live on one line of time, counted in starts and ends of requests. A write is
/// possible content from its start; once it ended well it replaces every version that had ended
/// before it started. A read may see whatever was not yet replaced when it started. From this
/// follows all the rest:
///
///     overlapping writes     neither ended before the other began: either may be read
///     a failed write         may have happened or not: it replaces nothing
///     discard                as a write of zeroes that replaces nothing
///     write_zeroes           as a write of zeroes
///
/// Differences are counted, never fatal: scripts that drop, zero or redirect make them on purpose.
struct DataOracle {
    /// One possible content of a block.
    private struct Version {
        /// Number of the write; 0: zeroes.
        var number: UInt64
        let began: UInt64
        var ended = UInt64.max
        var replaced = UInt64.max
    }

    /// Size of the blocks that are told apart.
    let unitBytes: UInt64
    private(set) var check = DataCheck()
    private var blocks: [UInt64: [Version]] = [:]
    private var clock: UInt64 = 0
    /// By tag: when the request in it began; `.max` when there is none.
    private var began: [UInt64]

    init(unitBytes: UInt64, depth: Int) {
        self.unitBytes = unitBytes
        began = Array(repeating: .max, count: depth)
    }

    /// Starts counting again at 0.
    mutating func restartCheck() { check = DataCheck() }

    /// Reads of every block that something happened to, in order, each as long as can be.
    ///
    /// - Parameters:
    ///   - lengthMax: of one.
    ///   - chunkBytes: none crosses a multiple of it; 0: there is none.
    func reads(lengthMax: UInt64, chunkBytes: UInt64) -> [SimulatedRequest] {
        var reads: [SimulatedRequest] = []
        for unit in blocks.keys.sorted() {
            let offset = unit * unitBytes
            if let last = reads.last, last.offsetBytes + last.lengthBytes == offset,
                last.lengthBytes + unitBytes <= lengthMax,
                chunkBytes == 0 || offset % chunkBytes != 0
            {
                reads[reads.count - 1].lengthBytes += unitBytes
                continue
            }
            reads.append(
                SimulatedRequest(op: .read, offsetBytes: offset, lengthBytes: unitBytes)
            )
        }
        return reads
    }

    private func units(_ request: SimulatedRequest) -> Range<UInt64> {
        request.offsetBytes / unitBytes..<(request.offsetBytes + request.lengthBytes) / unitBytes
    }

    /// The application sends a request: the buffer of a write is filled with its stamps, that of a read with poison.
    mutating func begin(
        _ tag: Tag,
        _ request: SimulatedRequest,
        _ buffer: UnsafeMutableRawPointer
    ) {
        clock += 1
        began[tag.index] = clock
        switch request.op {
        case .flush: return
        case .read:
            unsafe buffer.initializeMemory(
                as: UInt8.self,
                repeating: BlockStamp.poison,
                count: Int(request.lengthBytes)
            )
            return
        case .write, .discard, .writeZeroes: break
        }
        let number = request.op == .write ? clock : 0
        for unit in units(request) {
            let version = Version(number: number, began: clock)
            blocks[unit, default: Self.untouched].append(version)
            guard request.op == .write else { continue }
            let place = Int(unit * unitBytes - request.offsetBytes)
            unsafe BlockStamp(number: unit, version: clock).write(
                to: buffer + place,
                count: Int(unitBytes)
            )
        }
    }

    /// A block that nothing happened to yet.
    private static let untouched = [Version(number: 0, began: 0, ended: 0)]

    /// The request is over, as the application sees it.
    mutating func end(
        _ tag: Tag,
        _ request: SimulatedRequest,
        _ outcome: BlockLayer.Outcome,
        _ buffer: UnsafeRawPointer
    ) {
        clock += 1
        let start = began[tag.index]
        began[tag.index] = .max
        switch request.op {
        case .flush: return
        case .read:
            guard outcome == .done else {
                check.unread += units(request).count
                return
            }
            check.reads += 1
            for unit in units(request) {
                let place = Int(unit * unitBytes - request.offsetBytes)
                unsafe compare(unit, start, buffer + place)
            }
        case .write, .writeZeroes:
            for unit in units(request) { settle(unit, start, replaces: outcome == .done) }
        case .discard:
            for unit in units(request) { settle(unit, start, replaces: false) }
        }
    }

    /// The write that began at `start` is over.
    private mutating func settle(_ unit: UInt64, _ start: UInt64, replaces: Bool) {
        let oldest = began.min() ?? .max
        var versions = blocks[unit] ?? Self.untouched
        for index in versions.indices {
            if versions[index].began == start {
                versions[index].ended = clock
            } else if replaces, versions[index].ended < start, versions[index].replaced == .max {
                versions[index].replaced = clock
            }
        }
        // No read can return a version that was replaced before every request in flight began.
        versions.removeAll { $0.replaced < oldest }
        mergeZeroes(&versions)
        blocks[unit] = versions
    }

    /// Keeps one of several zero versions that are over: a block discarded a million times is one
    /// zero.
    private func mergeZeroes(_ versions: inout [Version]) {
        func isOver(_ version: Version) -> Bool {
            version.number == 0 && version.ended != .max && version.replaced == .max
        }
        while let first = versions.firstIndex(where: isOver),
            let last = versions.lastIndex(where: isOver), first != last
        {
            versions[last].ended = max(versions[last].ended, versions[first].ended)
            versions.remove(at: first)
        }
    }

    /// - Parameter block: what was read of the unit.
    private mutating func compare(_ unit: UInt64, _ start: UInt64, _ block: UnsafeRawPointer) {
        check.blocks += 1
        let found = unsafe BlockStamp.all(in: block, count: Int(unitBytes))
        let versions = blocks[unit] ?? Self.untouched
        func isAllowed(_ stamp: BlockStamp) -> Bool {
            versions.contains { version in
                let mark =
                    version.number == 0
                    ? BlockStamp.zeroes : BlockStamp(number: unit, version: version.number)
                return mark == stamp && version.replaced > start
            }
        }
        // Disks do not promise to keep overlapping requests apart: a mix of allowed versions is
        // allowed.
        if found.allSatisfy(isAllowed) {
            if unsafe BlockStamp.isChanged(block, count: Int(unitBytes)) { check.corrupt += 1 }
            return
        }
        guard found.count == 1, let stamp = found.first else { return check.torn += 1 }
        if stamp == .zeroes {
            check.zeroes += 1
        } else if stamp.number == unit, stamp.version < clock {
            check.stale += 1
        } else {
            check.foreign += 1
        }
    }
}

/// The result of comparing reads with the writes before them.
struct DataCheck: Codable, Equatable, Sendable {
    /// Successful reads that were compared.
    var reads = 0
    /// Blocks in them.
    var blocks = 0
    /// Blocks of reads that failed.
    var unread = 0
    /// Blocks that held an older write than the last acknowledged one.
    var stale = 0
    /// Blocks that held zeroes where data was acknowledged.
    var zeroes = 0
    /// Blocks with the data of another block, or with poison.
    var foreign = 0
    /// Blocks whose sectors are of different writes.
    var torn = 0
    /// Blocks of the right write with changed bits.
    var corrupt = 0

    /// Blocks that differ from the last acknowledged write.
    var differing: Int { stale + zeroes + foreign + torn + corrupt }
}
