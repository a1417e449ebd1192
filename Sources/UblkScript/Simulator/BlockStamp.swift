import Glibc

/// What a block on the device says about itself: whose data it is, and of which write.
///
///     each 512-byte sector of the block:   | number, version |  ... zeroes ...  | number, version |
///
/// Both ends of every sector are stamped, so that a copy that starts late, ends early or mixes two
/// writes shows; and what is between must be zeroes, so that a changed bit shows, wherever it is.
struct BlockStamp: Equatable {
    /// Length of a stamp, bytes; a transfer is never cut within a stamp.
    static let bytes = 16

    /// Position on the device, in blocks.
    var number: UInt64
    /// Counts up with every write; 0 together with number 0 is a block of zeroes.
    var version: UInt64

    /// A block that was never written.
    static let zeroes = BlockStamp(number: 0, version: 0)

    /// The byte that fills a buffer before a read, to recognise data that the read did not deliver.
    static let poison: UInt8 = 0xa5

    private static let sectorBytes = 512

    /// Writes the stamp over `count` bytes.
    func write(to block: UnsafeMutableRawPointer, count: Int) {
        unsafe block.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        for start in stride(from: 0, to: count, by: Self.sectorBytes) {
            for place in [start, start + Self.sectorBytes - Self.bytes] {
                unsafe block.storeBytes(of: number, toByteOffset: place, as: UInt64.self)
                unsafe block.storeBytes(of: version, toByteOffset: place + 8, as: UInt64.self)
            }
        }
    }

    /// The different stamps in `count` bytes: one, unless writes are mixed.
    static func all(in block: UnsafeRawPointer, count: Int) -> [BlockStamp] {
        var found: [BlockStamp] = []
        for start in stride(from: 0, to: count, by: Self.sectorBytes) {
            for place in [start, start + Self.sectorBytes - Self.bytes] {
                let number = unsafe block.load(fromByteOffset: place, as: UInt64.self)
                let version = unsafe block.load(fromByteOffset: place + 8, as: UInt64.self)
                let stamp = BlockStamp(number: number, version: version)
                if found.last != stamp { found.append(stamp) }
            }
        }
        return found
    }

    /// True when a bit between the stamps of some sector is set.
    static func isChanged(_ block: UnsafeRawPointer, count: Int) -> Bool {
        stride(from: bytes, to: count, by: sectorBytes).contains { start in
            let length = sectorBytes - 2 * bytes
            let between = unsafe block + start
            // All bytes are equal to the one before them, and the first is zero.
            return unsafe between.load(as: UInt8.self) != 0
                || memcmp(between, between + 1, length - 1) != 0
        }
    }
}
