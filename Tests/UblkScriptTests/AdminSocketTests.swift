import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// The admin socket, both sides in this process.
///
/// One after the other: listening changes the umask for a moment.
@Suite(.serialized) struct AdminSocketTests {
    private let scratch = ScratchDirectory()
    private var path: String { scratch.file("0.sock") }

    /// What a server answers; nil: nothing.
    private typealias Reply = @Sendable ([String]?) -> (ok: Bool, text: String)?

    /// Listens on a thread of its own and answers that many requests.
    ///
    /// Returns when it listens.
    private func serve(_ count: Int = 1, _ reply: @escaping Reply) -> ThreadList {
        let ready = Promise<DeviceError?>()
        let path = path
        var threads = ThreadList()
        threads.start("test-server") {
            do throws(DeviceError) {
                let socket = try AdminSocket(path: path)
                ready.fulfil(nil)
                for _ in 0..<count { Self.answer(socket, reply) }
            } catch { ready.fulfil(error) }
        }
        #expect(ready.wait(seconds: 5) == .some(nil))
        return threads
    }

    private static func answer(_ socket: borrowing AdminSocket, _ reply: Reply) {
        var events = pollfd(fd: socket.fd, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&events, 1, 5000) == 1, let connection = socket.accept() else { return }
        guard let answer = reply(connection.request()) else { return }
        connection.answer(ok: answer.ok, answer.text)
    }

    private func ask(_ words: [String], seconds: Int = 5) -> (ok: Bool, text: String)? {
        guard let connection = AdminConnection(connectingTo: path, seconds: seconds) else {
            return nil
        }
        return connection.ask(words)
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
    func `words arrive as they were said, empty ones too`(words: [String]) {
        var server = serve { request in (true, (request ?? ["none"]).joined(separator: "|")) }
        let answer = ask(words)
        server.joinAll()
        #expect(answer?.ok == true)
        #expect(answer?.text == words.joined(separator: "|"))
    }

    @Test func `an answer says whether it worked, with any text`() {
        let long = String(repeating: "line\n", count: 20_000)
        var server = serve(3) { request in
            switch request?.first {
            case "fail": (false, "because")
            case "long": (true, long)
            default: (true, "")
            }
        }
        #expect(ask(["fail"]) ?? (true, "") == (false, "because"))
        #expect(ask(["long"]) ?? (false, "") == (true, long))
        #expect(ask(["quiet"]) ?? (false, "x") == (true, ""))
        server.joinAll()
    }

    @Test func `a request of the largest size arrives, a larger one does not`() {
        let word = String(repeating: "w", count: AdminSocket.requestBytesMax - 4)
        var server = serve(2) { request in request.map { (true, "\($0.last?.utf8.count ?? 0)") } }
        #expect(ask(["ctl", word])?.text == "\(word.utf8.count)")
        #expect(ask(["ctl", word + "x"]) == nil)
        server.joinAll()
    }

    @Test func `a client that says nothing is given up on after two seconds`() {
        var server = serve { request in (request == nil, "") }
        let connection = AdminConnection(connectingTo: path, seconds: 10)
        let waited = seconds { server.joinAll() }
        let isConnected = connection != nil
        #expect(isConnected)
        #expect(waited >= 1.9)
        #expect(waited < 10)
    }

    @Test func `a client that hangs up is no request`() {
        var server = serve { request in
            #expect(request == nil)
            return nil
        }
        do { _ = AdminConnection(connectingTo: path, seconds: 5) }
        server.joinAll()
    }

    @Test func `a server that does not answer is given up on after the limit`() {
        var server = serve { _ in
            TestHost.sleep(milliseconds: 2500)
            return nil
        }
        let waited = seconds { #expect(ask(["ctl", "x"], seconds: 1) == nil) }
        #expect(waited >= 0.9)
        #expect(waited < 2.4)
        server.joinAll()
    }

    @Test func `a server that closes without a word gave no answer`() {
        var server = serve { _ in nil }
        #expect(ask(["ctl", "x"]) == nil)
        server.joinAll()
    }

    @Test func `nobody listens where there is no socket, or a dead one`() throws {
        #expect(!hasListener(path))
        do { _ = try AdminSocket(path: path) }
        #expect(DirectoryListing.names(scratch.path) == ["0.sock"], "it stays, as after a crash")
        #expect(!hasListener(path))
        // The next server takes its place.
        var server = serve { _ in (true, "again") }
        #expect(ask(["x"])?.text == "again")
        server.joinAll()
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
        let isWaiting = socket.accept() != nil
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
