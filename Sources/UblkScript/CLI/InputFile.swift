import Glibc
import SystemPackage

/// A text file that an option names.
enum InputFile {
    /// Larger ones are not what was meant.
    static let bytesMax = 1 << 30

    /// The text of a regular file.
    ///
    /// - Parameter hint: what to do when there is none, as the end of a sentence.
    /// - Throws: ``Failure`` with the path.
    static func text(_ path: String, hint: String = "") throws -> String {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else {
            let isMissing = Glibc.errno == ENOENT
            throw Failure("\(path): \(Errno(rawValue: Glibc.errno))\(isMissing ? hint : "")")
        }
        defer { close(fd) }
        var status = stat()
        guard unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
            status.st_size <= Self.bytesMax
        else {
            throw Failure("\(path): a regular file of at most \(bytesMax >> 20) MiB is expected")
        }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var filled = 0
        while filled < bytes.count {
            let got = unsafe bytes.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress else { return 0 }
                return unsafe read(fd, base + filled, bytes.count - filled)
            }
            guard got >= 0 else { throw Failure("\(path): \(Errno(rawValue: Glibc.errno))") }
            guard got > 0 else { break }
            filled += got
        }
        return String(decoding: bytes.prefix(filled), as: UTF8.self)
    }
}
