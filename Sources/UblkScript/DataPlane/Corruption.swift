import CLua

/// Bytes of one IO that change on their way, as its decision says.
///
/// A pure function: chance comes from the decision's seed only, which was drawn when the IO was decided about, so the
/// same decision on the same IO does the same to it. Allocates nothing. Any thread.
struct Corruption {
    /// Media corrupt sector by sector, whatever the device's block size is.
    private static let sectorBytes = UInt64(US_SECTOR_BYTES)

    private let what: us_corruption
    private let seed: UInt64
    /// A sticky corruption keeps to its bytes; nil: it is everywhere.
    private let range: RangeSet?

    init(_ decision: borrowing us_decision) {
        what = decision.corrupt
        seed = decision.corrupt_seed
        range = RangeSet(address: decision.corrupt_range)
    }

    /// Changes the data.
    ///
    /// A sticky corruption changes only whole sectors of its range, each the same way every time.
    ///
    /// - Parameters:
    ///   - data: whole sectors.
    ///   - offset: where on the device it belongs.
    ///   - patches: of the IO, where its handler has noted some.
    func apply(
        to data: UnsafeMutableRawBufferPointer,
        offset: UInt64,
        patches: UnsafePointer<us_patches>?
    ) {
        if what.mode == UInt8(US_CORRUPT_PATCH.rawValue) {
            if let patches = unsafe patches { unsafe Self.apply(patches.pointee, data) }
            return
        }
        guard what.sticky != 0 else {
            var stream = SplitMix64(state: seed)
            return unsafe change(data, &stream)
        }
        var at: UInt64 = 0
        while at < UInt64(data.count) {
            defer { at += Self.sectorBytes }
            if let range, !range.overlaps(offset + at, Self.sectorBytes) {
                continue
            }
            var first = SplitMix64(state: seed ^ (offset + at) &* 0x9e37_79b9_7f4a_7c15)
            var stream = SplitMix64(state: first.next())
            let sector = Int(at)..<Int(at + Self.sectorBytes)
            unsafe change(UnsafeMutableRawBufferPointer(rebasing: data[sector]), &stream)
        }
    }

    /// One stretch of bytes: the whole IO, or one sector of it.
    private func change(_ whole: UnsafeMutableRawBufferPointer, _ stream: inout SplitMix64) {
        let first = min(Int(what.at), whole.count)
        let rest = whole.count - first
        let count = what.length != 0 ? min(Int(what.length), rest) : rest
        guard count > 0 else { return }
        let data = unsafe UnsafeMutableRawBufferPointer(rebasing: whole[first..<first + count])
        switch us_corrupt_mode(UInt32(what.mode)) {
        case US_CORRUPT_FLIP:
            for _ in 0..<what.bits {
                let bit = stream.below(UInt64(count) * 8)
                unsafe data[Int(bit / 8)] ^= 1 << UInt8(bit % 8)
            }
        case US_CORRUPT_SET, US_CORRUPT_ZERO:
            unsafe data.initializeMemory(as: UInt8.self, repeating: what.value)
        case US_CORRUPT_GARBAGE: unsafe fillWithNoise(data, &stream)
        case US_CORRUPT_BYTE:
            // In this order since there were seeds.
            let difference = UInt8(1 + stream.below(255))
            unsafe data[Int(stream.below(UInt64(count)))] ^= difference
        case US_CORRUPT_SWAB:
            for place in stride(from: 0, to: count - 1, by: 2) {
                unsafe data.swapAt(place, place + 1)
            }
        case US_CORRUPT_STUCK:
            if what.value != 0 {
                unsafe data[0] |= 1 << what.bit
            } else {
                unsafe data[0] &= ~(1 << what.bit)
            }
        default: break
        }
    }

    private func fillWithNoise(
        _ data: UnsafeMutableRawBufferPointer,
        _ stream: inout SplitMix64
    ) {
        for place in stride(from: 0, to: data.count, by: 8) {
            let noise = stream.next()
            unsafe withUnsafeBytes(of: noise) { bytes in
                let part = unsafe UnsafeRawBufferPointer(rebasing: bytes.prefix(data.count - place))
                unsafe UnsafeMutableRawBufferPointer(rebasing: data[place...]).copyMemory(
                    from: part
                )
            }
        }
    }

    private static func apply(_ patches: us_patches, _ data: UnsafeMutableRawBufferPointer) {
        unsafe withUnsafeBytes(of: patches.list) { bytes in
            let list = unsafe bytes.assumingMemoryBound(to: us_patch.self)
            for index in 0..<Int(patches.count) { unsafe apply(list[index], data) }
        }
    }

    private static func apply(_ patch: us_patch, _ data: UnsafeMutableRawBufferPointer) {
        let first = Int(patch.at)
        let count = min(Int(patch.length), max(0, data.count - first))
        let isFlip = patch.is_flip != 0
        unsafe withUnsafeBytes(of: patch.bytes) { bytes in
            for index in 0..<count {
                let old = isFlip ? unsafe data[first + index] : 0
                unsafe data[first + index] = old ^ bytes[index]
            }
        }
    }
}
