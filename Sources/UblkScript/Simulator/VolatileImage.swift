/// What a power loss would take from one store: how the medium looks where it is not yet what is read.
///
/// Writes are volatile until a flush, unless they are durable themselves. Zeroes and discards reach the medium at
/// once: a cache may write back what it likes, whenever it likes. One thread.
@safe
final class VolatileImage {
    // Safety: the memory is the store's, which checks each place; it lives longer than this.
    private let memory: MemoryStore.View
    /// Pages as they are on the medium, by number; where there is none it is what is read.
    private var media: [UInt64: [UInt8]] = [:]

    private static let pageBytes: UInt64 = 4096

    init(_ memory: MemoryStore.View) { self.memory = memory }

    /// Bytes are about to be written.
    ///
    /// - Parameter isDurable: they are on the medium when the write is over.
    func willWrite(
        at offset: UInt64,
        _ data: UnsafeRawBufferPointer,
        isDurable: Bool
    ) {
        forEachPage(offset, UInt64(data.count)) { page, part in
            guard isDurable else {
                if media[page] == nil { media[page] = content(page) }
                return
            }
            let first = Int(part.lowerBound - page * Self.pageBytes)
            let source = Int(part.lowerBound - offset)
            for index in 0..<part.count {
                unsafe media[page]?[first + index] = data[source + index]
            }
        }
    }

    /// Bytes are about to be zeroed or discarded.
    func willClear(at offset: UInt64, length: UInt64) {
        guard length > 0 else { return }
        let pages = offset / Self.pageBytes...(offset + length - 1) / Self.pageBytes
        // A device may be discarded as a whole.
        for page in media.keys where pages.contains(page) {
            let start = page * Self.pageBytes
            for at in max(start, offset)..<min(start + Self.pageBytes, offset + length) {
                guard Int(at - start) < media[page]?.count ?? 0 else { break }
                media[page]?[Int(at - start)] = 0
            }
        }
    }

    /// All that was written is on the medium.
    func flush() { media.removeAll(keepingCapacity: true) }

    /// The store is as its medium is.
    ///
    /// - Returns: where that made a difference.
    func losePower() -> [Range<UInt64>] {
        defer { media.removeAll() }
        return media.compactMap { page, bytes in
            guard bytes != content(page) else { return nil }
            let start = page * Self.pageBytes
            unsafe bytes.withUnsafeBytes { bytes in
                guard let first = bytes.baseAddress else { return }
                unsafe memory.write(
                    at: start,
                    length: UInt64(bytes.count),
                    from: UnsafeMutableRawPointer(mutating: first)
                )
            }
            return start..<start + UInt64(bytes.count)
        }
    }

    private func content(_ page: UInt64) -> [UInt8] {
        let start = page * Self.pageBytes
        let length = min(Self.pageBytes, memory.sizeBytes - start)
        return unsafe [UInt8](unsafeUninitializedCapacity: Int(length)) { room, count in
            count = Int(length)
            guard let first = room.baseAddress else { return }
            unsafe memory.read(at: start, length: length, into: UnsafeMutableRawPointer(first))
        }
    }

    /// The pages of a place, and what of each belongs to it.
    private func forEachPage(
        _ offset: UInt64,
        _ length: UInt64,
        _ body: (UInt64, Range<UInt64>) -> Void
    ) {
        var at = offset
        while at < offset + length {
            let page = at / Self.pageBytes
            let end = min((page + 1) * Self.pageBytes, offset + length)
            body(page, at..<end)
            at = end
        }
    }
}
