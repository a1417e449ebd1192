import SystemPackage

@testable import UblkScript

/// Copies of data: pread and pwrite on the device.
extension FakeUblk {
    func read(
        _ fd: Int32,
        _ place: UnsafeMutableRawPointer,
        count: Int,
        at position: Int64
    ) -> Int {
        copy("pull", fd, count, position) { tag, bytes in
            unsafe data[tag]?.withUnsafeBytes {
                let part = unsafe UnsafeRawBufferPointer(rebasing: $0[bytes])
                unsafe UnsafeMutableRawBufferPointer(start: place, count: bytes.count)
                    .copyMemory(from: part)
            }
        }
    }

    func write(
        _ fd: Int32,
        _ place: UnsafeMutableRawPointer,
        count: Int,
        at position: Int64
    ) -> Int {
        copy("push", fd, count, position) { tag, bytes in
            let new = unsafe UnsafeRawBufferPointer(start: place, count: bytes.count)
            unsafe data[tag]?.replaceSubrange(bytes, with: new)
        }
    }

    /// - Parameter move: is told which bytes of the tag's data.
    private func copy(
        _ word: String,
        _ fd: Int32,
        _ count: Int,
        _ position: Int64,
        _ move: (UInt16, Range<Int>) -> Void
    ) -> Int {
        let place = position - 0x8000_0000
        let tag = UInt16(truncatingIfNeeded: place >> 25)
        let offset = Int(place & 0x1ff_ffff)
        guard fd == characterFD, place >= 0, place >> 41 == Int64(queue.rawValue),
            case .server = slots[tag], let size = data[tag]?.count, offset <= size
        else { return -Int(Errno.invalidArgument.rawValue) }
        copies.append("\(word) \(tag) \(offset)+\(count)")
        let most = copyResults.isEmpty ? count : copyResults.removeFirst()
        guard most > 0 else { return most }
        let bytes = offset..<min(offset + min(count, most), size)
        move(tag, bytes)
        return bytes.count
    }
}
