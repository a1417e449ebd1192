import Glibc
import Synchronization

/// Files that were made for a device that is not up yet.
///
/// Whoever calls the device off removes them. One that is made is known from the moment it exists, so that nobody who
/// ends the process in between leaves it behind. Any thread.
final class NewFiles: Sendable {
    private let paths = Mutex<[String]>([])

    /// Makes one.
    ///
    /// - Parameter make: gives its descriptor, or a negative number; has to fail for a file that exists.
    /// - Returns: what `make` gave.
    func make(_ path: String, _ make: () -> Int32) -> Int32 {
        paths.withLock {
            let fd = make()
            // Absolute: a server changes its folder.
            if fd >= 0 { $0.append(AbsolutePath.of(path)) }
            return fd
        }
    }

    /// Removes one, if it was made here.
    func remove(_ path: String) {
        paths.withLock {
            guard let place = $0.firstIndex(of: AbsolutePath.of(path)) else { return }
            unsafe unlink($0.remove(at: place))
        }
    }

    /// Removes those there are.
    func removeAll() {
        paths.withLock {
            for path in $0 { unsafe unlink(path) }
            $0 = []
        }
    }

    /// Ends the process with somebody else to remove them; none is made any more.
    func handOver(_ end: ([String]) -> Never) -> Never { paths.withLock { end($0) } }
}
