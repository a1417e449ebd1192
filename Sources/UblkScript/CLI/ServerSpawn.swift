import Glibc
import SystemPackage

/// Starts the server process of a device and waits for its word.
///
/// A new program, not a fork: the driver binds a device to the process that opens it, and only a
/// fresh process can be a server without this one's threads and files. It answers on a pipe: `+`
/// and the record, or `-` and what went wrong. A pipe that closes without a word means that it
/// died.
enum ServerSpawn {
    private static let readyFD: Int32 = 3
    private static let setNewSession: Int16 = 0x80

    /// - Returns: the record, as JSON.
    static func start(_ words: [String]) throws -> String {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else {
            throw Failure("pipe: \(Errno(rawValue: Glibc.errno))")
        }
        // Whatever our caller left open (a lock, a pipe) is not for a server that lives on.
        try? SystemCall.closeOnExec(from: 3)
        // The server gets a copy of the write end as ``readyFD`` and no other, or the pipe would
        // never end.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let pid = try spawn(["ublk-script", "serve", "--ready-fd", "\(readyFD)"] + words, ends[1])
        close(ends[1])
        defer { close(ends[0]) }
        let answer = readAll(ends[0])
        if answer.hasPrefix("+") { return String(answer.dropFirst()) }
        var status: Int32 = 0
        unsafe waitpid(pid, &status, 0)
        guard answer.hasPrefix("-") else {
            Removal.deleteLeftovers(of: pid)
            throw Failure(
                "the server process died before the device was up (wait status \(status))"
            )
        }
        throw Failure(String(answer.dropFirst()))
    }

    private static func spawn(_ words: [String], _ pipeEnd: Int32) throws -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_adddup2(&actions, pipeEnd, readyFD)
        // Callers wait for the end of our output: a server must not hold their pipe open.
        for fd in 0...2 as ClosedRange<Int32> {
            unsafe posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0)
        }
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        unsafe posix_spawnattr_setflags(&attributes, setNewSession)
        var argv = unsafe words.map { unsafe strdup($0) }
        defer { unsafe argv.forEach { unsafe free($0) } }
        unsafe argv.append(nil)
        var pid = pid_t()
        let result = unsafe posix_spawn(
            &pid,
            "/proc/self/exe",
            &actions,
            &attributes,
            argv,
            environ
        )
        guard result == 0 else {
            throw Failure("the server process cannot be started: \(Errno(rawValue: result))")
        }
        return pid
    }

    private static func readAll(_ fd: Int32) -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let got = unsafe chunk.withUnsafeMutableBytes {
                unsafe read(fd, $0.baseAddress, $0.count)
            }
            if got < 0, errno == EINTR { continue }
            guard got > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk.prefix(got)
        }
    }
}
