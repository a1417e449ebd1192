import Glibc
import SystemPackage

/// The listening Unix socket (mode 0600) over which `ublk-script ctl`, `stop`, `del` and others talk to a device's
/// server.
///
/// One request per connection. The request is words separated by NUL, and ends when the client shuts its write side
/// down. The answer is `+` or `-` (failed) and a text, and ends when the server closes. Each side limits the time of
/// the whole exchange, not of each read.
struct AdminSocket: ~Copyable {
    let fd: Int32

    /// The longest request, unless a script may be sent.
    static let requestBytesMax = 64 << 10

    /// The longest request to reload: the longest script, and its settings.
    static let reloadBytesMax = 17 << 20

    /// Listens at `path`, replacing a socket that a dead server left.
    init(path: String) throws(DeviceError) {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
        guard fd >= 0 else {
            throw .system(call: "socket for", path: path, Errno(rawValue: Glibc.errno))
        }
        unsafe unlink(path)
        var errno = Errno.fileNameTooLong
        let isListening = unsafe withAddress(path) { address, length in
            // Before bind() gives it a name; the umask would apply to all threads.
            let isBound =
                unsafe fchmod(fd, 0o600) == 0 && bind(fd, address, length) == 0
                && listen(fd, 16) == 0
            errno = Errno(rawValue: Glibc.errno)
            return isBound
        }
        guard isListening ?? false else {
            close(fd)
            throw .system(call: "listen at", path: path, errno)
        }
        self.fd = fd
    }

    deinit { close(fd) }

    /// Accepts the next connection, non-blocking; nil when there is none.
    ///
    /// - Throws: what keeps a connection that is there from being accepted: EMFILE, ENFILE, ENOMEM, ENOBUFS. The socket
    ///   stays readable.
    func accept() throws(Errno) -> Int32? {
        do { return try SystemCall.acceptConnection(fd) } catch {
            // There is none, or its client has gone.
            if [.wouldBlock, .interrupted, .connectionAbort].contains(error) { return nil }
            throw error
        }
    }
}

/// The client's side of a connection to a server.
struct AdminConnection: ~Copyable {
    private let fd: Int32
    private let limit: TimeLimit

    /// Why there is no answer.
    enum Silence: Error {
        /// The time is over, or `shouldContinue` returned false.
        case late
        /// The server ended, or closed the connection.
        case ended
    }

    /// Connects to the server that listens at `path`; fails with `errno` set.
    ///
    /// - Parameters:
    ///   - seconds: time limit of the whole exchange.
    ///   - shouldContinue: called 50 times a second while the server's backlog is full; false gives up.
    init?(
        connectingTo path: String,
        seconds: Int,
        shouldContinue: () -> Bool = { true }
    ) {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
        guard fd >= 0 else { return nil }
        var limit = TimeLimit(seconds: Double(seconds))
        while !(unsafe withAddress(path, { unsafe connect(fd, $0, $1) == 0 }) ?? false) {
            // The listen backlog is full: the server is busy or stopped.
            let isBusy = errno == EAGAIN
            guard isBusy, !limit.isOver(), shouldContinue() else {
                let reason = isBusy ? EAGAIN : errno
                close(fd)
                errno = reason
                return nil
            }
            usleep(20_000)
        }
        self.fd = fd
        self.limit = limit
    }

    deinit { close(fd) }

    /// Sends a request and waits for the answer; call once.
    ///
    /// - Parameter shouldContinue: called ten times a second while waiting; false gives up.
    func ask(
        _ words: [String],
        shouldContinue: () -> Bool = { true }
    ) throws(Silence) -> (ok: Bool, text: String) {
        var limit = limit
        var rest = Array(words.joined(separator: "\0").utf8)[...]
        while !rest.isEmpty {
            let sent = unsafe rest.withUnsafeBytes {
                unsafe send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            // The server may have answered and closed before it received everything.
            if sent < 0, errno == EPIPE { break }
            rest = rest.dropFirst(max(0, sent))
            if sent < 0 { try wait(for: POLLOUT, &limit, shouldContinue) }
        }
        shutdown(fd, Int32(SHUT_WR))
        let bytes = try readAll(&limit, shouldContinue)
        guard let first = bytes.first else { throw .ended }
        return (first == UInt8(ascii: "+"), String(decoding: bytes.dropFirst(), as: UTF8.self))
    }

    func ask(
        _ verb: AdminCall.Verb,
        _ arguments: [String] = [],
        shouldContinue: () -> Bool = { true }
    ) throws(Silence) -> (ok: Bool, text: String) {
        try ask([verb.rawValue] + arguments, shouldContinue: shouldContinue)
    }

    private func readAll(
        _ limit: inout TimeLimit,
        _ shouldContinue: () -> Bool
    ) throws(Silence) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe read(fd, $0.baseAddress, $0.count)
            }
            if got > 0 {
                bytes += chunk.prefix(got)
            } else if got < 0, errno == EAGAIN || errno == EINTR {
                try wait(for: POLLIN, &limit, shouldContinue)
            } else {
                return bytes
            }
        }
    }

    private func wait(
        for event: Int32,
        _ limit: inout TimeLimit,
        _ shouldContinue: () -> Bool
    ) throws(Silence) {
        var events = pollfd(fd: fd, events: Int16(event), revents: 0)
        while unsafe poll(&events, 1, TimeLimit.stepMilliseconds) <= 0 {
            guard !limit.isOver(), shouldContinue() else { throw .late }
        }
    }
}

/// Calls `body` with the socket address of `path`; nil when the path is too long.
func withAddress<R>(
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
