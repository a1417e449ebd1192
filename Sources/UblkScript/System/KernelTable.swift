import Glibc

/// The tables of text that the kernel shows in `/proc`.
///
/// Any thread.
enum KernelTable {
    /// The lines of a table; nil: it cannot be read, which an empty one can.
    static func lines(_ path: String) -> [Substring]? {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe read(fd, $0.baseAddress, $0.count)
            }
            if got < 0, errno == EINTR { continue }
            // Half of a table would pass for all of it.
            guard got >= 0 else { return nil }
            guard got > 0 else { break }
            text += chunk.prefix(got)
        }
        return String(decoding: text, as: UTF8.self).split(separator: "\n")
    }

    /// Decodes the octal escapes (`\040` for a blank) of a table.
    static func unescaped(_ text: some StringProtocol) -> String {
        let parts = text.split(separator: "\\", omittingEmptySubsequences: false)
        var bytes = Array((parts.first ?? "").utf8)
        for part in parts.dropFirst() {
            if part.count >= 3, let byte = UInt8(part.prefix(3), radix: 8) {
                bytes.append(byte)
                bytes += part.dropFirst(3).utf8
            } else {
                bytes += "\\\(part)".utf8
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// A mount, as `/proc/PID/mountinfo` lists it.
struct Mount {
    /// `MAJOR:MINOR` of what is mounted.
    let number: Substring
    /// Path of the mount point, for that process.
    let place: String
    /// Type of the filesystem.
    let type: Substring
    let source: String

    /// All mounts in the namespace of a process, parents before what is mounted on them; nil: the table cannot be read.
    ///
    /// A server's own namespace has none: see ``MountNamespace``.
    ///
    /// - Parameter root: tests have a `/proc` of their own there.
    static func all(of pid: String, _ root: String = "") -> [Mount]? {
        KernelTable.lines("\(root)/proc/\(pid)/mountinfo")?.compactMap { line in
            let words = line.split(separator: " ")
            guard let end = words.firstIndex(of: "-"), end > 4, words.count > end + 2 else {
                return nil
            }
            return Mount(
                number: words[2],
                place: KernelTable.unescaped(words[4]),
                type: words[end + 1],
                source: KernelTable.unescaped(words[end + 2])
            )
        }
    }
}
