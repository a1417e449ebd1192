import Glibc
import SystemPackage

/// `--open`: hands the file of a trace to ui.perfetto.dev, which fetches it from this machine, once.
///
///     browser ── https://ui.perfetto.dev/#!/?url=http://127.0.0.1:9001/trace ──► the page
///        ◄── GET /trace ── the page's script, which may ask this port and no other of this machine
///
/// The answer says that only that page may read it (Access-Control-Allow-Origin), and the socket takes connections of
/// this machine alone. Connections come one after the other, each with a time limit, as a browser may open one and say
/// nothing on it.
final class TraceOffer {
    /// The one port that the page may fetch from.
    static let usualPort: UInt16 = 9001
    private static let site = "https://ui.perfetto.dev"
    private static let path = "/trace"
    /// How long one connection may take to say what it wants, or to take it.
    private static let limitSeconds = 10

    private let fd: Int32
    let port: UInt16

    /// Takes the port, so that one that is taken is told of before there is a trace.
    ///
    /// - Parameter port: 0: any.
    init(port: UInt16 = usualPort) throws {
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0)
        guard fd >= 0 else { throw Failure("--open: \(Errno(rawValue: errno))") }
        var yes: Int32 = 1
        unsafe setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = port.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let fd = fd
        let failure = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe bind(fd, address, length) != 0 || listen(fd, 8) != 0
                    || getsockname(fd, address, &length) != 0
            }
        }
        guard !failure else {
            let errno = Errno(rawValue: Glibc.errno)
            close(fd)
            throw Failure(
                """
                --open: port \(port) of 127.0.0.1 cannot be had: \(errno) (\(errno.name)). ui.perfetto.dev fetches from \
                no other; is another trace being opened?
                """
            )
        }
        self.port = UInt16(bigEndian: address.sin_port)
    }

    deinit { close(fd) }

    /// The address that a browser is to open.
    var link: String { "\(Self.site)/#!/?url=http://127.0.0.1:\(port)\(Self.path)" }

    /// Answers until the trace was fetched.
    func serve(_ trace: [UInt8]) {
        while true {
            let connection = accept(fd, nil, nil)
            guard connection >= 0 else {
                // Without a file descriptor or memory for it: it is still there the next time.
                if errno != EINTR && errno != ECONNABORTED { usleep(100_000) }
                continue
            }
            defer { close(connection) }
            var limit = timeval(tv_sec: Self.limitSeconds, tv_usec: 0)
            for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
                let size = socklen_t(MemoryLayout<timeval>.size)
                unsafe setsockopt(connection, SOL_SOCKET, option, &limit, size)
            }
            let request = Self.request(connection)
            let answer = Self.answer(request, trace)
            if Self.send(answer.bytes, connection), answer.isTrace { return }
        }
    }

    /// The first line and the headers of a request; what came when there is no end of them.
    private static func request(_ connection: Int32) -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count < 64 << 10 {
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe recv(connection, $0.baseAddress, $0.count, 0)
            }
            if got < 0, errno == EINTR { continue }
            guard got > 0 else { break }
            bytes += chunk.prefix(got)
            if bytes.suffix(4) == Array("\r\n\r\n".utf8)[...] { break }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func answer(_ request: String, _ trace: [UInt8]) -> (
        bytes: [UInt8], isTrace: Bool
    ) {
        let words = request.prefix { $0 != "\r\n" && $0 != "\n" }.split(separator: " ")
        guard words.count == 3, words[1] == path else { return (head("404 Not Found"), false) }
        switch words[0] {
        case "GET": return (head("200 OK", bytes: trace.count) + trace, true)
        case "OPTIONS", "HEAD": return (head("200 OK"), false)
        default: return (head("405 Method Not Allowed"), false)
        }
    }

    private static func head(_ status: String, bytes: Int = 0) -> [UInt8] {
        let lines = [
            "HTTP/1.1 \(status)", "Access-Control-Allow-Origin: \(site)",
            "Access-Control-Allow-Methods: GET, HEAD, OPTIONS",
            "Access-Control-Allow-Private-Network: true", "Cache-Control: no-store",
            "Content-Type: application/octet-stream", "Content-Length: \(bytes)",
            "Connection: close", "", "",
        ]
        return Array(lines.joined(separator: "\r\n").utf8)
    }

    private static func send(_ bytes: [UInt8], _ connection: Int32) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let sent = unsafe rest.withUnsafeBytes {
                unsafe Glibc.send(
                    connection,
                    $0.baseAddress,
                    $0.count,
                    Int32(MSG_NOSIGNAL)
                )
            }
            if sent < 0, errno == EINTR { continue }
            guard sent > 0 else { return false }
            rest = rest.dropFirst(sent)
        }
        return true
    }
}

extension TraceOffer {
    /// Offers a file: prints the link, and waits until it was fetched or Ctrl-C.
    func offer(_ path: String) throws {
        let content: WholeFile.Content
        do throws(WholeFile.Problem) {
            content = try WholeFile.read(path, bytesMax: 1 << 30, takesPipe: false) {}
        } catch { throw Failure("--open: \(path) cannot be read: \(error)") }
        try Output.now(
            """
            Open \(link)
            This command ends when the page has fetched the trace, or with Ctrl-C.

            """
        )
        serve(content.bytes)
    }
}
