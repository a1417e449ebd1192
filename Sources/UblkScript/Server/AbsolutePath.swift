import Glibc

/// Paths for the record: they must mean the same in another directory.
enum AbsolutePath {
    static func of(_ path: String) -> String {
        guard let resolved = unsafe realpath(path, nil) else { return path }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}
