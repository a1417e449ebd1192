import Glibc
import SystemPackage

/// Another process of this program that lives beside this one, and the socket on which the two send
/// each other letters: one call, one letter.
///
/// It is told to end by the socket's end. Made and used by one thread.
final class Companion {
    enum Received: Equatable {
        case text(String)
        /// Not in that time.
        case nothing
        /// It has died.
        case end
    }

    private static let letterBytesMax = 4096

    let fd: Int32
    /// nil: the other end is not a process of its own.
    private let pid: pid_t?

    /// - Parameter words: what makes the program that process.
    convenience init(_ words: [String]) throws(DeviceError) {
        var ends: [Int32] = [-1, -1]
        // One that is not close-on-exec is so before the next program starts.
        guard unsafe socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0 else {
            throw .system(call: "socketpair", path: "", Errno(rawValue: Glibc.errno))
        }
        defer { close(ends[1]) }
        let pid: pid_t
        do throws(DeviceError) {
            // Not of our session: Ctrl-C in a terminal is for us to handle.
            pid = try ChildProcess.spawn(words, answerEnd: ends[1], inNewSession: true)
        } catch {
            close(ends[0])
            throw error
        }
        self.init(fd: ends[0], pid: pid)
    }

    /// - Parameter fd: our end of the socket, which is closed with this.
    init(fd: Int32, pid: pid_t?) {
        self.fd = fd
        self.pid = pid
    }

    /// Ends it, and waits a moment so that nothing of it is left when we end.
    deinit {
        close(fd)
        var limit = TimeLimit(seconds: 1)
        while !hasEnded(), !limit.isOver() { usleep(1000) }
    }

    /// - Returns: false when it has died, or reads nothing any more.
    func send(_ letter: String) -> Bool {
        Self.write(letter, to: fd, flags: Int32(MSG_DONTWAIT))
    }

    func receive(milliseconds: Int32) -> Received {
        var event = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&event, 1, milliseconds) > 0 else { return .nothing }
        return Self.read(fd).map { .text($0) } ?? .end
    }

    private func hasEnded() -> Bool { pid.map { waitpid($0, nil, WNOHANG) != 0 } ?? true }

    // MARK: Both sides

    /// The next letter, nil at the end.
    static func read(_ fd: Int32) -> String? {
        var bytes = [UInt8](repeating: 0, count: letterBytesMax)
        while true {
            let got = unsafe bytes.withUnsafeMutableBytes {
                unsafe recv(fd, $0.baseAddress, $0.count, 0)
            }
            if got < 0, errno == EINTR { continue }
            return got > 0 ? String(decoding: bytes.prefix(got), as: UTF8.self) : nil
        }
    }

    /// Any thread.
    static func write(_ letter: String, to fd: Int32, flags: Int32 = 0) -> Bool {
        let bytes = Array(letter.utf8.prefix(letterBytesMax))
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
