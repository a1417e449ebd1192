import CUring
import Glibc

/// Names in a directory and what links say, without Foundation.
enum DirectoryListing {
    static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Empty when it cannot be read.
    static func names(_ path: String) -> [String] {
        guard let directory = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// What a symbolic link says; nil: it is none, or cannot be read.
    static func link(_ path: String) -> String? {
        var bytes = [CChar](repeating: 0, count: 4096)
        let got = unsafe readlink(path, &bytes, bytes.count)
        guard got > 0 else { return nil }
        return String(decoding: bytes.prefix(got).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
