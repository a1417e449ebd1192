import CLua

/// The 64-bit hash of data for `io:hash()` and for `content = { hash = ... }` of a rule; also used by hash tables.
///
/// A pure function, any thread. FNV-1a over 8 bytes at a time, with the halves of the product mixed; it does not
/// resist crafted collisions.
enum DataHash {
    /// - Parameter bytes: `length` bytes; nil stands for none.
    static func of(_ bytes: UnsafeRawPointer?, length: UInt64) -> UInt64 {
        var hash = 0xcbf2_9ce4_8422_2325 ^ length
        guard let bytes = unsafe bytes else { return hash }
        let wholeEnd = Int(length & ~7)
        var place = 0
        while place < wholeEnd {
            let word = unsafe bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self)
            hash = mixed(hash, word)
            place &+= 8
        }
        let rest = Int(length & 7)
        guard rest != 0 else { return hash }
        var word: UInt64 = 0
        unsafe withUnsafeMutableBytes(of: &word) {
            unsafe $0.copyMemory(from: UnsafeRawBufferPointer(start: bytes + place, count: rest))
        }
        return mixed(hash, word)
    }

    @inline(__always)
    private static func mixed(_ hash: UInt64, _ word: UInt64) -> UInt64 {
        let product = (hash ^ word) &* 0x9e37_79b9_7f4a_7c15
        return product ^ product >> 32
    }
}
