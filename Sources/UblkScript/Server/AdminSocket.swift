import Glibc
import SystemPackage

/// The Unix socket by which `ublk-script ctl`, `stop` and `del` talk to a device's server.
///
/// Mode 0600.
///
/// One request a connection. Request: words separated by NUL, ended by closing the write side.
/// Answer: `+` or `-` (it failed), then text, ended by closing. Both sides give up after a time
/// limit.
struct AdminSocket: ~Copyable {
    let fd: Int32
    private let path: String

    static let requestBytesMax = 64 << 10

    /// Listens at `path`, replacing a socket that a dead server left.
    init(path: String) throws(DeviceError) {
        self.path = path
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
        guard fd >= 0 else {
            throw .system(call: "socket for", path: path, Errno(rawValue: Glibc.errno))
        }
        unsafe unlink(path)
        let oldMask = umask(0o177)
        var errno = Errno.fileNameTooLong
        let isListening = unsafe withAddress(path) { address, length in
            let isBound = unsafe bind(fd, address, length) == 0 && listen(fd, 16) == 0
            errno = Errno(rawValue: Glibc.errno)
            return isBound
        }
        umask(oldMask)
        guard isListening ?? false else {
            close(fd)
            throw .system(call: "listen at", path: path, errno)
        }
        self.fd = fd
    }

    deinit { close(fd) }

    /// The next waiting connection, nil when there is none.
    func accept() -> AdminConnection? {
        let connection = Glibc.accept(fd, nil, nil)
        return connection >= 0 ? AdminConnection(fd: connection) : nil
    }
}

/// One connection, on either side.
struct AdminConnection: ~Copyable {
    private let fd: Int32

    fileprivate init(fd: Int32) {
        self.fd = fd
        Self.setTimeLimit(fd, seconds: 2)
    }

    /// Connects to the server that listens at `path`; nil, with `errno`, when that fails.
    init?(connectingTo path: String, seconds: Int) {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0)
        guard fd >= 0 else { return nil }
        // Before connecting, which waits while the server's backlog is full.
        Self.setTimeLimit(fd, seconds: seconds)
        guard unsafe withAddress(path, { unsafe connect(fd, $0, $1) == 0 }) ?? false else {
            close(fd)
            return nil
        }
        self.fd = fd
    }

    deinit { close(fd) }

    private static func setTimeLimit(_ fd: Int32, seconds: Int) {
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        unsafe setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
        unsafe setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
    }

    /// Server: the words of the request.
    func request() -> [String]? {
        guard let bytes = readAll(limit: AdminSocket.requestBytesMax), !bytes.isEmpty else {
            return nil
        }
        return bytes.split(separator: 0, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    /// Server: the answer.
    func answer(ok: Bool, _ text: String) { writeAll(Array(((ok ? "+" : "-") + text).utf8)) }

    /// Client: asks and waits for the answer; nil when there was none in time.
    func ask(_ words: [String]) -> (ok: Bool, text: String)? {
        writeAll(Array(words.joined(separator: "\0").utf8))
        shutdown(fd, Int32(SHUT_WR))
        guard let bytes = readAll(limit: 1 << 20), let first = bytes.first else { return nil }
        return (first == UInt8(ascii: "+"), String(decoding: bytes.dropFirst(), as: UTF8.self))
    }

    private func readAll(limit: Int) -> [UInt8]? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count <= limit {
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe read(fd, $0.baseAddress, $0.count)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { return nil }
            guard got > 0 else { return bytes }
            bytes += chunk.prefix(got)
        }
        return nil
    }

    private func writeAll(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { bytes in
                unsafe send(
                    fd,
                    bytes.baseAddress.map { base in unsafe base + sent },
                    bytes.count - sent,
                    Int32(MSG_NOSIGNAL)
                )
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            sent += count
        }
    }
}

/// Calls `body` with the socket address of `path`; nil when the path is too long for one.
private func withAddress<R>(
    _ path: String,
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
) -> R? {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
    return unsafe withUnsafePointer(to: &address) { pointer in
        unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
}
