import Glibc
import SystemPackage

/// A child process that runs this program, and the socket on which it sends one answer.
///
/// The answer is `+` and a text, or `-` and an error text. Each side sees by the socket when the other one ends; an
/// end without an answer means that the child died.
///
/// The child is spawned, not just forked: the driver binds a device to the process that opens it, and only a new
/// program is without this one's threads, files and mappings.
struct ChildProcess: ~Copyable {
    /// The child's end of the socket; apart from this and `/dev/null` as 0 to 2 the child has no open file.
    static let answerFD: Int32 = 3
    /// The spawn flag POSIX_SPAWN_SETSID.
    private static let setNewSession: Int16 = 0x80

    let pid: pid_t
    private let answerEnd: Int32

    /// Starts the program.
    ///
    /// - Parameters:
    ///   - words: its arguments.
    ///   - inNewSession: it outlives this process and its terminal.
    ///   - input: its standard input; nil: `/dev/null`.
    init(_ words: [String], inNewSession: Bool, input: Int32? = nil) throws(DeviceError) {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue) | O_CLOEXEC
        guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else {
            throw .system(call: "socketpair", path: "", Errno(rawValue: Glibc.errno))
        }
        defer { close(ends[1]) }
        do throws(DeviceError) {
            pid = try Self.spawn(
                words,
                input: input,
                answerEnd: ends[1],
                inNewSession: inNewSession
            )
        } catch {
            close(ends[0])
            throw error
        }
        answerEnd = ends[0]
    }

    deinit { close(answerEnd) }

    /// Starts this program with no open file of this process but `answerEnd`, as its ``answerFD``, and `input` as
    /// its standard input.
    static func spawn(
        _ words: [String],
        input: Int32? = nil,
        answerEnd: Int32,
        inNewSession: Bool
    ) throws(DeviceError) -> pid_t {
        // The child must not inherit files of whoever started us (a caller's lock, a pipe). Ours are close-on-exec from
        // the beginning, so a kernel or a sandbox that refuses this is no obstacle.
        try? SystemCall.closeOnExec(from: 3)
        var child = pid_t()
        let result = spawn(
            &child,
            words,
            input,
            answerEnd,
            inNewSession ? setNewSession : 0
        )
        guard result == 0 else {
            throw .system(call: "posix_spawn", path: "/proc/self/exe", Errno(rawValue: result))
        }
        return child
    }

    private static func spawn(
        _ pid: inout pid_t,
        _ words: [String],
        _ input: Int32?,
        _ pipeEnd: Int32,
        _ flags: Int16
    ) -> Int32 {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        // Without memory an action would be left out without a word, and the child have other files than it thinks.
        var problem = unsafe posix_spawn_file_actions_adddup2(&actions, pipeEnd, answerFD)
        // Callers wait for the end of our output, so a server must not keep their pipe open.
        for fd in 0...2 as ClosedRange<Int32> where problem == 0 {
            problem = unsafe posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0)
        }
        if let input, problem == 0 {
            problem = unsafe posix_spawn_file_actions_adddup2(&actions, input, 0)
        }
        guard problem == 0 else { return problem }
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        unsafe posix_spawnattr_setflags(&attributes, flags)
        var argv = unsafe (["ublk-script"] + words).map { unsafe strdup($0) }
        defer { unsafe argv.forEach { unsafe free($0) } }
        // An argument that is missing would end the list.
        guard unsafe argv.allSatisfy({ unsafe $0 != nil }) else { return ENOMEM }
        unsafe argv.append(nil)
        return unsafe posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, argv, environ)
    }

    /// Waits until the child has begun to answer or has died; false when it has done neither in that time.
    func waitForAnswer(milliseconds: Int32) -> Bool {
        var event = pollfd(fd: answerEnd, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&event, 1, milliseconds) > 0
    }

    /// Reads the answer up to the end of file; "" when the child died.
    ///
    /// - Throws: when it cannot be read. Then the child lives, and may go on to wait for ``confirm()``.
    func readAnswer() throws(Errno) -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe read(answerEnd, $0.baseAddress, $0.count)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw Errno(rawValue: Glibc.errno) }
            guard got > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk.prefix(got)
        }
    }

    /// Waits until the child has ended.
    ///
    /// - Returns: the wait status.
    @discardableResult
    func reap() -> Int32 {
        var status: Int32 = 0
        while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return status
    }

    /// Tells the child that its answer has been used.
    func confirm() {
        var byte = UInt8(ascii: "+")
        unsafe send(answerEnd, &byte, 1, Int32(MSG_NOSIGNAL))
    }

    /// Closes the socket, so that the child's ``isConfirmed()`` is false.
    func hangUp() { shutdown(answerEnd, Int32(SHUT_RDWR)) }

    // MARK: The child's side

    /// Sends the answer; call once.
    ///
    /// - Returns: false when the parent has gone.
    static func answer(ok: Bool, _ text: String) -> Bool {
        var rest = Array(((ok ? "+" : "-") + text).utf8)[...]
        while !rest.isEmpty {
            let sent = unsafe rest.withUnsafeBytes {
                unsafe send(answerFD, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if sent < 0, errno == EINTR { continue }
            guard sent > 0 else { break }
            rest = rest.dropFirst(sent)
        }
        shutdown(answerFD, Int32(SHUT_WR))
        return rest.isEmpty
    }

    /// Waits until the parent has confirmed the answer, and closes the socket.
    ///
    /// - Returns: false when the parent ended or hung up before.
    static func isConfirmed() -> Bool {
        var byte: UInt8 = 0
        var got = 0
        repeat { got = unsafe read(answerFD, &byte, 1) } while got < 0 && errno == EINTR
        close(answerFD)
        return got == 1
    }
}
