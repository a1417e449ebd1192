import Glibc
import SystemPackage

/// A child process that runs this program as long as this process lives, and the SOCK_SEQPACKET socket over which the
/// two exchange messages.
///
/// The child ends when the socket closes. Made and used by one thread; a message is one text of at most 4096 bytes.
final class Companion {
    enum Received: Equatable {
        case text(String)
        /// No message arrived in time.
        case nothing
        /// The child has died.
        case end
    }

    private static let messageBytesMax = 4096

    let fd: Int32
    /// The child; nil in tests, where the other end is not a process.
    private let pid: pid_t?

    /// Starts the child.
    ///
    /// - Parameter words: its arguments.
    convenience init(_ words: [String]) throws(DeviceError) {
        var ends: [Int32] = [-1, -1]
        // A child with a copy of this end would never read the end of file.
        let type = Int32(SOCK_SEQPACKET.rawValue) | O_CLOEXEC
        guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else {
            throw .system(call: "socketpair", path: "", Errno(rawValue: Glibc.errno))
        }
        defer { close(ends[1]) }
        let pid: pid_t
        do throws(DeviceError) {
            // In a session of its own, so that Ctrl-C in a terminal does not end it.
            pid = try ChildProcess.spawn(words, answerEnd: ends[1], inNewSession: true)
        } catch {
            close(ends[0])
            throw error
        }
        self.init(fd: ends[0], pid: pid)
    }

    /// - Parameter fd: this end of the socket, closed in deinit.
    init(fd: Int32, pid: pid_t?) {
        self.fd = fd
        self.pid = pid
    }

    /// Ends the child and waits for it, for up to a second.
    deinit {
        close(fd)
        var limit = TimeLimit(seconds: 1)
        while !hasEnded(), !limit.isOver() { usleep(1000) }
    }

    /// Sends a message without waiting.
    ///
    /// - Returns: false when the child has died or does not read.
    func send(_ message: String) -> Bool {
        Self.write(message, to: fd, flags: Int32(MSG_DONTWAIT))
    }

    func receive(milliseconds: Int32) -> Received {
        var event = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&event, 1, milliseconds) > 0 else { return .nothing }
        return Self.read(fd).map { .text($0) } ?? .end
    }

    private func hasEnded() -> Bool { pid.map { waitpid($0, nil, WNOHANG) != 0 } ?? true }

    // MARK: Both sides

    /// Waits for the next message; nil when the other side has closed the socket.
    static func read(_ fd: Int32) -> String? {
        var bytes = [UInt8](repeating: 0, count: messageBytesMax)
        while true {
            let got = unsafe bytes.withUnsafeMutableBytes {
                unsafe recv(fd, $0.baseAddress, $0.count, 0)
            }
            if got < 0, errno == EINTR { continue }
            return got > 0 ? String(decoding: bytes.prefix(got), as: UTF8.self) : nil
        }
    }

    /// Sends a message; any thread.
    static func write(_ message: String, to fd: Int32, flags: Int32 = 0) -> Bool {
        let bytes = Array(message.utf8.prefix(messageBytesMax))
        while true {
            let sent = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.send(
                    fd,
                    $0.baseAddress,
                    $0.count,
                    flags | Int32(MSG_NOSIGNAL)
                )
            }
            if sent < 0, errno == EINTR { continue }
            return sent == bytes.count
        }
    }
}
