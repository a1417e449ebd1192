import Glibc

@testable import UblkScript

/// What the machine offers, and what the environment asks of the tests.
enum TestHost {
    /// The value of an environment variable, nil when it is not set.
    static func variable(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe String(cString: value)
    }

    /// io_uring can be used here.
    static let hasUring: Bool = {
        do {
            _ = try Ring(entries: 2, style: .queue)
            return true
        } catch { return false }
    }()

    /// A real ublk driver is loaded.
    static var hasDriver: Bool { unsafe access("/dev/ublk-control", F_OK) == 0 }

    /// Tests of several seconds are wanted: UBLK_TEST_SLOW=1.
    static let runsSlowTests = variable("UBLK_TEST_SLOW") == "1"

    /// All of these programs can be run.
    static func has(_ programs: String...) -> Bool {
        let path = (variable("PATH") ?? "") + ":/usr/sbin:/sbin"
        let folders: [Substring] = path.split(separator: ":")
        return programs.allSatisfy { program in
            folders.contains { unsafe access("\($0)/\(program)", X_OK) == 0 }
        }
    }

    /// A seed for a randomised test: UBLK_TEST_SEED when it is set, a new one otherwise.
    ///
    /// Printed, so that a failure can be repeated.
    static func seed(for test: String) -> UInt64 {
        let seed =
            variable("UBLK_TEST_SEED").flatMap { UInt64($0) } ?? UInt64.random(in: 1...999_999)
        print("\(test): UBLK_TEST_SEED=\(seed)")
        return seed
    }

    /// The file in which the kernel tells what the calling thread does.
    static var ownState: String {
        var link = [CChar](repeating: 0, count: 64)
        let length = unsafe readlink("/proc/thread-self", &link, link.count)
        precondition(length > 0, "/proc/thread-self")
        return
            "/proc/\(String(decoding: link.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self))/stat"
    }

    /// The thread whose `ownState` this is waits in the kernel.
    static func isAsleep(_ state: String) -> Bool {
        let fd = unsafe open(state, O_RDONLY)
        guard fd >= 0 else { return false }
        defer { close(fd) }
        var text = [UInt8](repeating: 0, count: 64)
        _ = unsafe read(fd, &text, text.count)
        // "TID (NAME) S ...", and a name may hold anything.
        guard let end = text.lastIndex(of: UInt8(ascii: ")")), end + 2 < text.count else {
            return false
        }
        return text[end + 2] == UInt8(ascii: "S")
    }

    static func sleep(milliseconds: UInt32) { usleep(milliseconds * 1000) }
}

/// A directory for one test, removed with everything in it.
final class ScratchDirectory {
    let path: String

    init() {
        var template = Array("/tmp/ublk-script-test-XXXXXX".utf8CString)
        precondition(unsafe mkdtemp(&template) != nil, "mkdtemp")
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // A test of sockets changes the process's umask for a moment.
        unsafe chmod(path, 0o700)
    }

    deinit {
        for name in DirectoryListing.names(path) {
            unsafe unlink(file(name))
            unsafe rmdir(file(name))
        }
        unsafe rmdir(path)
    }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes a file and answers its path.
    @discardableResult
    func write(_ name: String, _ text: String) -> String {
        let fd = unsafe open(file(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        precondition(fd >= 0, "open \(file(name))")
        defer { close(fd) }
        let bytes = Array(text.utf8)
        let written = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.write(fd, $0.baseAddress, $0.count)
        }
        precondition(written == bytes.count, "write \(file(name))")
        return file(name)
    }
}

/// The whole of a file; nil when it cannot be read.
func contents(of path: String) -> String? {
    let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    return readToEnd(fd)
}

/// Everything that comes from `fd` until its end; what is there now, when it does not block.
func readToEnd(_ fd: Int32) -> String {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let got = unsafe chunk.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        if got < 0, errno == EINTR { continue }
        guard got > 0 else { return String(decoding: bytes, as: UTF8.self) }
        bytes += chunk.prefix(got)
    }
}
