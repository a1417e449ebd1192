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
/// Beside that line of what is visible there is a durable one, for what a power loss may leave. A write is durable
/// when a flush that began after its end has ended well; or with its own end, if it has FUA or the device has no
/// volatile cache. A block keeps the newest content that is durable, or gets any that began later:
///
///     a flush              makes nothing durable that was under way when it began
///     a failed flush       makes nothing durable
///     what is not durable  may be on the medium or not, in whatever order
///
/// Differences are counted, never fatal: scripts that drop, zero, redirect or lose a flush make them on purpose.
struct DataOracle {
    /// One possible content of a block.
    private struct Version {
        /// Number of the write; 0: zeroes.
        var number: UInt64
        let began: UInt64
        /// When the first began of those that were under way with it at its beginning.
        ///
        /// If it is durable, nothing from before that is there any more; a little too lenient where writes overlap.
        var since: UInt64 = 0
        var ended = UInt64.max
        var replaced = UInt64.max
    }

    /// What is known of one block.
    private struct Block {
        /// A block that nothing happened to yet.
        var versions = [Version(number: 0, began: 0, ended: 0)]
        /// No content that began before that outlives a power loss.
        var floor: UInt64 = 0
        /// When the last zeroes began that may have been stored.
        var zeroes: UInt64 = 0
        /// Writes that ended well and are not durable: how many flushes had begun by then, and ``Version/since``.
        var volatile: [(flushes: Int, since: UInt64)] = []

        /// A write has ended well that a later flush makes durable.
        mutating func wait(flushes: Int, since: UInt64) {
            if let last = volatile.last, last.flushes == flushes {
                volatile[volatile.count - 1].since = max(last.since, since)
            } else {
                volatile.append((flushes, since))
            }
        }

        /// The flush of that number, from 1, has ended well.
        mutating func flushed(_ flush: Int) {
            for entry in volatile where entry.flushes < flush { floor = max(floor, entry.since) }
            volatile.removeAll { $0.flushes < flush }
        }
    }

    /// Size of the blocks that are told apart.
    let unitBytes: UInt64
    private(set) var check = DataCheck()
    private var blocks: [UInt64: Block] = [:]
    /// Those with writes that are not durable.
    private var dirty: Set<UInt64> = []
    private var clock: UInt64 = 0
    /// By place: when the request in it began; `.max` when there is none.
    private var began: [UInt64]
    /// Flushes that have begun, and by place the number of the one in it.
    private var flushes = 0
    private var flushNumber: [Int]
    private let isVolatile: Bool

    /// Reads bring what was made durable.
    private var isAfterPowerLoss = false
    /// Blocks that were not as acknowledged before the power was lost: that is told already.
    private var wrong: Set<UInt64> = []

    /// - Parameters:
    ///   - depth: how many requests can be in flight.
    ///   - isVolatile: the device has a cache that a flush empties.
    init(unitBytes: UInt64, depth: Int, isVolatile: Bool = false) {
        self.unitBytes = unitBytes
        self.isVolatile = isVolatile
        began = Array(repeating: .max, count: depth)
        flushNumber = Array(repeating: 0, count: depth)
    }

    /// All that was written is read, and counts from here on.
    mutating func beginReadBack() {
        check = DataCheck()
        wrong = []
    }

    /// What is read now was outlived by a power loss; counts from here on.
    mutating func losePower() {
        check = DataCheck()
        isAfterPowerLoss = true
    }

    /// Reads of every block that something happened to, in order, each as long as can be.
    ///
    /// - Parameters:
    ///   - places: only blocks there, in order; nil: all.
    ///   - lengthMax: of one.
    ///   - chunkBytes: none crosses a multiple of it; 0: there is none.
    func reads(
        in places: [Range<UInt64>]? = nil,
        lengthMax: UInt64,
        chunkBytes: UInt64
    ) -> [SimulatedRequest] {
        var reads: [SimulatedRequest] = []
        let units = places.map { Self.units(in: $0, unitBytes) }
        for unit in blocks.keys.sorted() where units?.contains(unit) != false {
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

    private static func units(in places: [Range<UInt64>], _ unitBytes: UInt64) -> Set<UInt64> {
        Set(
            places.flatMap {
                $0.lowerBound / unitBytes...($0.upperBound - 1) / unitBytes
            }
        )
    }

    private func units(_ request: SimulatedRequest) -> Range<UInt64> {
        request.offsetBytes / unitBytes..<(request.offsetBytes + request.lengthBytes) / unitBytes
    }

    /// The application sends a request: the buffer of a write is filled with its stamps, that of a read with poison.
    mutating func begin(
        _ place: Int,
        _ request: SimulatedRequest,
        _ buffer: UnsafeMutableRawPointer
    ) {
        clock += 1
        began[place] = clock
        switch request.op {
        case .flush:
            flushes += 1
            flushNumber[place] = flushes
            return
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
            var block = blocks[unit] ?? Block()
            let first = block.versions.filter { $0.ended == .max }.map(\.began).min()
            block.versions.append(
                Version(number: number, began: clock, since: first ?? clock)
            )
            if number == 0 { block.zeroes = clock }
            blocks[unit] = block
            guard request.op == .write else { continue }
            let at = Int(unit * unitBytes - request.offsetBytes)
            unsafe BlockStamp(number: unit, version: clock).write(
                to: buffer + at,
                count: Int(unitBytes)
            )
        }
    }

    /// The request is over, as the application sees it.
    mutating func end(
        _ place: Int,
        _ request: SimulatedRequest,
        _ outcome: BlockLayer.Outcome,
        _ buffer: UnsafeRawPointer
    ) {
        clock += 1
        let start = began[place]
        began[place] = .max
        switch request.op {
        case .flush:
            if outcome == .done { flushed(flushNumber[place]) }
        case .read:
            guard outcome == .done else {
                check.unread += units(request).count
                if !isAfterPowerLoss { wrong.formUnion(units(request)) }
                return
            }
            check.reads += 1
            for unit in units(request) {
                let at = Int(unit * unitBytes - request.offsetBytes)
                unsafe compare(unit, start, buffer + at)
            }
        case .write, .writeZeroes:
            let isDurable = !isVolatile || request.flags.contains(.fua)
            for unit in units(request) {
                settle(unit, start, replaces: outcome == .done, isDurable: isDurable)
            }
        case .discard:
            for unit in units(request) {
                settle(unit, start, replaces: false, isDurable: false)
            }
        }
    }

    /// A flush has ended well.
    private mutating func flushed(_ number: Int) {
        for unit in dirty {
            blocks[unit]?.flushed(number)
            if blocks[unit]?.volatile.isEmpty == true { dirty.remove(unit) }
        }
    }

    /// The write that began at `start` is over.
    ///
    /// - Parameter replaces: it ended well, and promises its content.
    private mutating func settle(_ unit: UInt64, _ start: UInt64, replaces: Bool, isDurable: Bool) {
        let oldest = began.min() ?? .max
        var block = blocks[unit] ?? Block()
        for index in block.versions.indices {
            if block.versions[index].began == start {
                block.versions[index].ended = clock
                guard replaces else { continue }
                let since = block.versions[index].since
                if isDurable {
                    block.floor = max(block.floor, since)
                } else {
                    block.wait(flushes: flushes, since: since)
                    dirty.insert(unit)
                }
            } else if replaces, block.versions[index].ended < start,
                block.versions[index].replaced == .max
            {
                block.versions[index].replaced = clock
            }
        }
        // No read can return a version that was replaced before every request in flight began.
        block.versions.removeAll { $0.replaced < oldest }
        mergeZeroes(&block.versions)
        blocks[unit] = block
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

    /// - Parameter content: what was read of the unit.
    private mutating func compare(_ unit: UInt64, _ start: UInt64, _ content: UnsafeRawPointer) {
        if isAfterPowerLoss, wrong.contains(unit) { return }
        check.blocks += 1
        let found = unsafe BlockStamp.all(in: content, count: Int(unitBytes))
        let block = blocks[unit] ?? Block()
        func isAllowed(_ stamp: BlockStamp) -> Bool {
            isAfterPowerLoss
                ? outlives(stamp, unit, block) : isVisible(stamp, unit, block, since: start)
        }
        // Disks do not promise to keep overlapping requests apart: a mix of allowed versions is
        // allowed.
        if found.allSatisfy(isAllowed) {
            guard unsafe BlockStamp.isChanged(content, count: Int(unitBytes)) else { return }
            if !isAfterPowerLoss { wrong.insert(unit) }
            check.corrupt += 1
            return
        }
        if !isAfterPowerLoss { wrong.insert(unit) }
        guard found.count == 1, let stamp = found.first else { return check.torn += 1 }
        if stamp == .zeroes {
            check.zeroes += 1
        } else if stamp.number == unit, stamp.version < clock {
            check.stale += 1
        } else {
            check.foreign += 1
        }
    }

    private func isVisible(
        _ stamp: BlockStamp,
        _ unit: UInt64,
        _ block: Block,
        since start: UInt64
    ) -> Bool {
        block.versions.contains { version in
            let mark =
                version.number == 0
                ? BlockStamp.zeroes : BlockStamp(number: unit, version: version.number)
            return mark == stamp && version.replaced > start
        }
    }

    /// A power loss may leave that.
    private func outlives(_ stamp: BlockStamp, _ unit: UInt64, _ block: Block) -> Bool {
        if stamp == .zeroes { return block.zeroes >= block.floor }
        return stamp.number == unit && stamp.version >= block.floor && stamp.version < clock
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
