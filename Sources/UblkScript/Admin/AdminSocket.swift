import Glibc
import SystemPackage

/// The Unix socket by which `ublk-script ctl`, `stop`, `del` and others talk to a device's server.
///
/// Mode 0600.
///
/// One request a connection. Request: words separated by NUL, ended by closing the write side.
/// Answer: `+` or `-` (it failed), then text, ended by closing. Each side gives the other one limited
/// time for a whole connection, however its bytes are spread.
struct AdminSocket: ~Copyable {
    let fd: Int32

    /// Of words that people say.
    static let requestBytesMax = 64 << 10

    /// Of a reload: the longest script, and its settings.
    static let reloadBytesMax = 17 << 20

    /// Listens at `path`, replacing a socket that a dead server left.
    init(path: String) throws(DeviceError) {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
        guard fd >= 0 else {
            throw .system(call: "socket for", path: path, Errno(rawValue: Glibc.errno))
        }
        unsafe unlink(path)
        // Before it has a name; the umask is all threads'.
        fchmod(fd, 0o600)
        var errno = Errno.fileNameTooLong
        let isListening = unsafe withAddress(path) { address, length in
            let isBound = unsafe bind(fd, address, length) == 0 && listen(fd, 16) == 0
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

    /// The next waiting connection, which does not block; nil when there is none.
    func accept() -> Int32? {
        let connection = Glibc.accept(fd, nil, nil)
        guard connection >= 0 else { return nil }
        _ = fcntl(connection, F_SETFL, O_NONBLOCK)
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        return connection
    }
}

/// A connection to a server, seen from the command that asks it something.
struct AdminConnection: ~Copyable {
    private let fd: Int32
    private let limit: TimeLimit

    /// Why there is no answer.
    enum Silence: Error {
        /// The time is over, or whoever asks has no more patience.
        case late
        /// The server ended, or closed the connection.
        case ended
    }

    /// Connects to the server that listens at `path`; nil, with `errno`, when that fails.
    ///
    /// - Parameter seconds: for all of the connection.
    init?(
        connectingTo path: String,
        seconds: Int,
        goesOn: () -> Bool = { true }
    ) {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
        guard fd >= 0 else { return nil }
        var limit = TimeLimit(seconds: Double(seconds))
        while !(unsafe withAddress(path, { unsafe connect(fd, $0, $1) == 0 }) ?? false) {
            // The queue of those who wait is full: the server is busy, or stands still.
            let isBusy = errno == EAGAIN
            guard isBusy, !limit.isOver(), goesOn() else {
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

    /// Asks and waits for the answer; once.
    ///
    /// - Parameter goesOn: asked ten times a second while there is none; false gives up.
    func ask(
        _ words: [String],
        goesOn: () -> Bool = { true }
    ) throws(Silence) -> (ok: Bool, text: String) {
        var limit = limit
        var rest = Array(words.joined(separator: "\0").utf8)[...]
        while !rest.isEmpty {
            let sent = unsafe rest.withUnsafeBytes {
                unsafe send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            // One that has heard enough may have answered already.
            if sent < 0, errno == EPIPE { break }
            rest = rest.dropFirst(max(0, sent))
            if sent < 0 { try wait(for: POLLOUT, &limit, goesOn) }
        }
        shutdown(fd, Int32(SHUT_WR))
        let bytes = try readAll(&limit, goesOn)
        guard let first = bytes.first else { throw .ended }
        return (first == UInt8(ascii: "+"), String(decoding: bytes.dropFirst(), as: UTF8.self))
    }

    private func readAll(
        _ limit: inout TimeLimit,
        _ goesOn: () -> Bool
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
                try wait(for: POLLIN, &limit, goesOn)
            } else {
                return bytes
            }
        }
    }

    private func wait(
        for event: Int32,
        _ limit: inout TimeLimit,
        _ goesOn: () -> Bool
    ) throws(Silence) {
        var events = pollfd(fd: fd, events: Int16(event), revents: 0)
        while unsafe poll(&events, 1, TimeLimit.stepMilliseconds) <= 0 {
            guard !limit.isOver(), goesOn() else { throw .late }
        }
    }
}

/// Calls `body` with the socket address of `path`; nil when the path is too long for one.
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
