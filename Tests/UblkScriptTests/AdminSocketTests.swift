import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import UblkScript

/// The admin socket, both sides in this process.
///
/// One after the other: one of them changes the umask for a moment.
@Suite(.serialized) struct AdminSocketTests {
    private let scratch = ScratchDirectory()
    private var path: String { scratch.file("0.sock") }

    /// What a server answers; nil: nothing, its connections are closed.
    private typealias Reply = @Sendable ([String]) -> (ok: Bool, text: String)?

    /// A server on a thread of its own, until it is to stop or has nothing to answer.
    private final class Server {
        private let isStopped = Flag()
        private var threads: ThreadList

        final class Flag: Sendable { let value = Atomic(false) }

        /// Returns when it listens.
        init(_ path: String, limit: Double, _ reply: @escaping Reply) {
            let ready = Promise<DeviceError?>()
            let isStopped = isStopped
            var threads = ThreadList()
            threads.start("test-server") {
                AdminSocketTests.serve(path, limit, isStopped, ready, reply)
            }
            self.threads = threads
            #expect(ready.wait(seconds: 5) == .some(nil))
        }

        func stop() {
            isStopped.value.store(true, ordering: .relaxed)
            threads.joinAll()
        }
    }

    private static func serve(
        _ path: String,
        _ limit: Double,
        _ isStopped: Server.Flag,
        _ ready: Promise<DeviceError?>,
        _ reply: Reply
    ) {
        do throws(DeviceError) {
            let callers = try AdminCallers(path: path, limitSeconds: limit)
            ready.fulfil(nil)
            while !isStopped.value.load(ordering: .relaxed), serve(callers, reply) {}
            callers.finish()
        } catch { ready.fulfil(error) }
    }

    private static func serve(_ callers: AdminCallers, _ reply: Reply) -> Bool {
        var events = callers.events
        unsafe poll(
            &events,
            nfds_t(events.count),
            min(20, callers.millisecondsToLook ?? 20)
        )
        for caller in callers.turn() {
            guard let answer = reply(caller.words) else { return false }
            caller.answer(ok: answer.ok, answer.text)
        }
        return true
    }

    private func serve(limit: Double = 2, _ reply: @escaping Reply) -> Server {
        Server(path, limit: limit, reply)
    }

    private func ask(
        _ words: [String],
        seconds: Int = 5
    ) throws(AdminConnection.Silence) -> (ok: Bool, text: String) {
        guard let connection = AdminConnection(connectingTo: path, seconds: seconds) else {
            throw .ended
        }
        return try connection.ask(words)
    }

    /// A client that says its request as it likes.
    private final class SlowClient {
        let fd: Int32

        init(_ path: String) {
            fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0)
            #expect((unsafe withAddress(path) { unsafe connect(fd, $0, $1) }) == 0)
        }

        deinit { close(fd) }

        /// - Returns: false when the server hears no more.
        func say(_ text: String) -> Bool {
            let bytes = Array(text.utf8)
            return unsafe send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
        }

        func hear() -> String {
            var bytes = [UInt8](repeating: 0, count: 4096)
            let got = unsafe bytes.withUnsafeMutableBytes {
                unsafe read(fd, $0.baseAddress, $0.count)
            }
            return String(decoding: bytes.prefix(max(0, got)), as: UTF8.self)
        }
    }

    private func hasListener(_ path: String) -> Bool {
        AdminConnection(connectingTo: path, seconds: 1) != nil
    }

    private func seconds(_ body: () -> Void) -> Double {
        let start = SystemCall.monotonicNanoseconds
        body()
        return Double(SystemCall.monotonicNanoseconds - start) / 1e9
    }

    @Test(arguments: [
        ["del"], ["ctl", "addbad", "8M", "4K"], ["ctl", "", "x", "", ""], ["ctl", ""],
        ["ctl", "two words", "line\nend", "größe", "-"],
    ])
    func `words arrive as they were said, empty ones too`(words: [String]) throws {
        let server = serve { (true, $0.joined(separator: "|")) }
        let answer = try ask(words)
        server.stop()
        #expect(answer == (true, words.joined(separator: "|")))
    }

    @Test func `an answer says whether it worked, with any text`() throws {
        let long = String(repeating: "line\n", count: 200_000)
        let server = serve { words in
            switch words.first {
            case "fail": (false, "because")
            case "long": (true, long)
            default: (true, "")
            }
        }
        #expect(try ask(["fail"]) == (false, "because"))
        #expect(try ask(["long"]) == (true, long))
        #expect(try ask(["quiet"]) == (true, ""))
        server.stop()
    }

    @Test func `a request of the largest size arrives, of a larger one the answer says so`() throws
    {
        let word = String(repeating: "w", count: AdminSocket.requestBytesMax - 4)
        let server = serve { (true, "\($0.last?.utf8.count ?? 0)") }
        #expect(try ask(["ctl", word]) == (true, "\(word.utf8.count)"))
        for tooLong in [word + "x", word + String(repeating: "x", count: 1 << 20)] {
            let answer = try ask(["ctl", tooLong])
            #expect(!answer.ok && answer.text.contains("more than 64 KiB"), "\(answer)")
        }
        server.stop()
    }

    @Test(arguments: [0, 20])
    func `a client has one time limit, however its bytes are spread`(gap: UInt32) {
        let server = serve(limit: 0.3) { _ in (true, "") }
        let client = SlowClient(path)
        var answer = ""
        let waited = seconds {
            while gap > 0, client.say("x") { TestHost.sleep(milliseconds: gap) }
            answer = client.hear()
        }
        server.stop()
        #expect(answer == "-the request was not complete within 0.3 s")
        #expect(waited >= 0.29)
        #expect(waited < 3)
    }

    @Test func `others are served while one says nothing and one does not take its answer`() throws
    {
        let long = String(repeating: "line\n", count: 200_000)
        let server = serve(limit: 60) { words in (true, words == ["long"] ? long : "") }
        let silent = SlowClient(path)
        let deaf = SlowClient(path)
        #expect(deaf.say("long"))
        shutdown(deaf.fd, Int32(SHUT_WR))
        for _ in 0..<3 { #expect(try ask(["x"]) == (true, "")) }
        #expect(silent.say("x"))
        #expect(deaf.hear().hasPrefix("+line"))
        // Else the server would wait for it to take the rest.
        shutdown(deaf.fd, Int32(SHUT_RDWR))
        server.stop()
    }

    @Test func `one who does not take its answer is given up on`() {
        let long = String(repeating: "line\n", count: 200_000)
        let server = serve(limit: 0.2) { _ in (true, long) }
        let deaf = SlowClient(path)
        #expect(deaf.say("x"))
        shutdown(deaf.fd, Int32(SHUT_WR))
        TestHost.sleep(milliseconds: 100)
        let waited = seconds { server.stop() }
        #expect(waited < 2)
    }

    @Test func `a client that hangs up is no request`() {
        let server = serve { words in
            Issue.record("\(words)")
            return nil
        }
        do { _ = AdminConnection(connectingTo: path, seconds: 5) }
        #expect(throws: AdminConnection.Silence.ended) { try ask([]) }
        server.stop()
    }

    @Test
    func `a server that does not answer is given up on after the limit or when patience ends`() {
        let server = serve { _ in
            TestHost.sleep(milliseconds: 1500)
            return nil
        }
        let waited = seconds {
            #expect(throws: AdminConnection.Silence.late) { try ask(["ctl", "x"], seconds: 1) }
        }
        #expect(waited >= 0.9)
        #expect(waited < 1.45)
        server.stop()
        let other = serve { _ in
            TestHost.sleep(milliseconds: 1000)
            return nil
        }
        guard let connection = AdminConnection(connectingTo: path, seconds: 60) else {
            Issue.record("no connection")
            return
        }
        var questions = 0
        #expect(throws: AdminConnection.Silence.late) {
            try connection.ask(["x"]) {
                questions += 1
                return questions < 3
            }
        }
        other.stop()
    }

    @Test func `a connection that cannot be accepted is looked at again later, not all the time`()
        throws
    {
        let callers = try AdminCallers(path: path)
        let listening = try #require(callers.events.last).fd
        let saved = dup(listening)
        defer { close(saved) }
        // Readable, and accept() fails, as it does without a file descriptor.
        let broken = unsafe open("/dev/zero", O_RDONLY)
        defer { close(broken) }
        #expect(dup2(broken, listening) == listening)
        let client = SlowClient(path)
        let start = SystemCall.monotonicNanoseconds
        #expect(callers.turn(now: start).isEmpty)
        #expect(callers.events.isEmpty && callers.millisecondsToLook == 101)
        #expect(dup2(saved, listening) == listening)
        #expect(client.say("x"))
        shutdown(client.fd, Int32(SHUT_WR))
        #expect(callers.turn(now: start + 99_000_000).isEmpty && callers.events.isEmpty)
        // It is accepted, and received in the first turn; the second one sees its end.
        #expect(callers.turn(now: start + 100_000_000).isEmpty && callers.events.count == 2)
        #expect(callers.turn(now: start + 100_000_000).map(\.words) == [["x"]])
    }

    @Test func `time in which one side stood still is not the other's`() throws {
        let callers = try AdminCallers(path: path, limitSeconds: 1)
        let client = SlowClient(path)
        #expect(client.say("x"))
        let start = SystemCall.monotonicNanoseconds
        let minute: UInt64 = 60_000_000_000
        // The server stood still for a minute, which counts as two steps of ten.
        for look in [start, start + minute] { #expect(callers.turn(now: look).isEmpty) }
        for step in 1...7 {
            #expect(callers.turn(now: start + minute + UInt64(step) * 100_000_000).isEmpty)
        }
        shutdown(client.fd, Int32(SHUT_WR))
        #expect(callers.turn(now: start + minute + 750_000_000).map(\.words) == [["x"]])
        let server = serve(limit: 60) { _ in
            TestHost.sleep(milliseconds: 1500)
            return (true, "late")
        }
        guard let connection = AdminConnection(connectingTo: path, seconds: 1) else {
            Issue.record("no connection")
            return
        }
        // This side does nothing between two looks.
        let answer = try connection.ask(["x"]) {
            TestHost.sleep(milliseconds: 1000)
            return true
        }
        #expect(answer == (true, "late"))
        server.stop()
    }

    @Test func `a server that closes without a word gave no answer`() {
        let server = serve { _ in nil }
        #expect(throws: AdminConnection.Silence.ended) { try ask(["ctl", "x"]) }
        server.stop()
    }

    @Test func `nobody listens where there is no socket, or a dead one`() throws {
        #expect(!hasListener(path))
        do { _ = try AdminSocket(path: path) }
        #expect(DirectoryListing.names(scratch.path) == ["0.sock"], "it stays, as after a crash")
        #expect(!hasListener(path))
        // The next server takes its place.
        let server = serve { _ in (true, "again") }
        #expect(try ask(["x"]).text == "again")
        server.stop()
    }

    @Test func `only the owner may talk to it, and the umask is as it was`() throws {
        let before = umask(0o027)
        let socket = try AdminSocket(path: path)
        let after = umask(before)
        var status = stat()
        #expect(unsafe stat(path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        #expect(status.st_mode & S_IFMT == S_IFSOCK)
        #expect(after == 0o027)
        let isWaiting = try socket.accept() != nil
        #expect(!isWaiting, "accepting does not wait")
    }

    @Test func `a path that is too long is refused with the reason`() {
        let name = String(repeating: "x", count: 120)
        let long = scratch.file(name)
        #expect { _ = try AdminSocket(path: long) } throws: { error in
            guard case .system(let call, let path, let errno) = error as? DeviceError else {
                return false
            }
            return call.contains("listen") && path == long && errno == .fileNameTooLong
        }
        #expect(!hasListener(long))
        #expect(DirectoryListing.names(scratch.path).isEmpty, "nothing is left behind")
    }

    @Test func `a directory that is missing is named`() {
        #expect { _ = try AdminSocket(path: scratch.file("no/0.sock")) } throws: { error in
            guard case .system(_, _, .noSuchFileOrDirectory) = error as? DeviceError else {
                return false
            }
            return true
        }
    }
}
