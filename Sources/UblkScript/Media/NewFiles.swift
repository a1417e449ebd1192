import Glibc
import Synchronization

/// The files that were made for a device that is not up yet, which are removed when bringing it up fails.
///
/// A file is listed from the moment it exists, so that a process that is ended in between does not leave it behind. Any
/// thread.
final class NewFiles: Sendable {
    private let paths = Mutex<[String]>([])

    /// Makes a file and lists it.
    ///
    /// - Parameter make: returns the descriptor or a negative number; must fail when the file exists.
    /// - Returns: the result of `make`.
    func make(_ path: String, _ make: () -> Int32) -> Int32 {
        paths.withLock {
            let fd = make()
            // Absolute, because a server changes its working directory.
            if fd >= 0 { $0.append(AbsolutePath.of(path)) }
            return fd
        }
    }

    /// Removes a file, if it is listed.
    func remove(_ path: String) {
        paths.withLock {
            guard let place = $0.firstIndex(of: AbsolutePath.of(path)) else { return }
            unsafe unlink($0.remove(at: place))
        }
    }

    /// Removes all listed files.
    func removeAll() {
        paths.withLock {
            for path in $0 { unsafe unlink(path) }
            $0 = []
        }
    }

    /// Ends the process, leaving it to `end` to have the files removed; no file can be made meanwhile.
    func handOver(_ end: ([String]) -> Never) -> Never { paths.withLock { end($0) } }
}
