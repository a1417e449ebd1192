/// Moves C structures in and out of byte arrays, for payloads that the kernel reads or writes.
enum Bytes {
    /// The bytes of a plain C structure.
    static func of<T: BitwiseCopyable>(_ value: T) -> [UInt8] {
        unsafe withUnsafeBytes(of: value) { unsafe Array($0) }
    }

    /// The structure at the start of `bytes`.
    /// - Precondition: there are enough of them.
    static func load<T: BitwiseCopyable>(_ type: T.Type, from bytes: [UInt8]) -> T {
        precondition(bytes.count >= MemoryLayout<T>.size)
        return unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(as: T.self) }
    }
}
