import Glibc

/// Paths for the record: they must mean the same in another directory.
enum AbsolutePath {
    static func of(_ path: String) -> String {
        guard let resolved = unsafe realpath(path, nil) else { return path }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }

    /// The folder among `/dev`, `/proc` and `/sys` that a file of that name would be made in; nil: none of them.
    ///
    /// Only the kernel and its helpers make files there, so the path is a mistyped name of a device.
    static func kernelFolder(of path: String) -> String? {
        let parent = path.lastIndex(of: "/").map { path[...$0] } ?? "."
        let folder = of(String(parent))
        return ["/dev", "/proc", "/sys"].first { folder == $0 || folder.hasPrefix($0 + "/") }
    }
}
