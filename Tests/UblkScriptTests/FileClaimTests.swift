import Glibc
import Testing

@testable import UblkScript

/// Who may have a backing file beside whom.
@Suite struct FileClaimTests {
    private let scratch = ScratchDirectory()

    private static let claims: [FileClaim] = [
        .exclusive, .shared(isReadOnly: false), .shared(isReadOnly: true), .readOnly,
    ]

    /// A file of 1 MiB.
    private var disk: String {
        let path = scratch.file("disk.img")
        let fd = unsafe open(path, O_RDWR | O_CREAT, 0o600)
        ftruncate(fd, 1 << 20)
        close(fd)
        return path
    }

    private func store(
        _ path: String,
        _ claim: FileClaim,
        sizeBytes: UInt64? = nil,
        newFiles: NewFiles? = NewFiles()
    ) throws(FileStore.Problem) -> FileStore {
        try FileStore(path: path, sizeBytes: sizeBytes, claim: claim, newFiles: newFiles)
    }

    @Test(arguments: claims, claims)
    func `a file has one writer, many readers, or many who share it`(
        first: FileClaim,
        second: FileClaim
    ) throws {
        let path = disk
        let fits = first.isShared && second.isShared || first == .readOnly && second == .readOnly
        do {
            let holder = try store(path, first)
            if fits {
                _ = (try store(path, second), try store(path, first))
            } else {
                #expect {
                    _ = try store(path, second)
                } throws: {
                    "\($0)".hasPrefix("backing file \(path) is in use: another device has it")
                }
            }
            // One that was refused has left no mark.
            if first != .exclusive { _ = try store(path, first) }
            withExtendedLifetime(holder) {}
        }
        // Nobody has it any more.
        let next = try store(path, .exclusive)
        #expect(fcntl(next.fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE) == O_RDWR)
        #expect(fcntl(next.fd, F_GETFD) & FD_CLOEXEC != 0)
    }

    @Test func `a refusal says which word is missing, and where`() throws {
        let path = disk
        func refusal(_ held: FileClaim, _ wanted: FileClaim) throws -> String {
            let holder = try store(path, held)
            defer { withExtendedLifetime(holder) {} }
            do throws(FileStore.Problem) { _ = try store(path, wanted) } catch {
                return "\(error)"
            }
            return "it was opened"
        }
        let shared = FileClaim.shared(isReadOnly: false)
        #expect(try refusal(shared, .exclusive).contains("Say shared = true here, too"))
        #expect(try refusal(shared, .readOnly).contains("Say shared = true here, too"))
        #expect(try refusal(.exclusive, shared).contains("have to say shared = true"))
        #expect(try refusal(.readOnly, shared).contains("what only reads it has to say"))
        #expect(try !refusal(.exclusive, .exclusive).contains("shared"))
    }

    @Test func `a file that is to be shared is there already, and has the size`() throws {
        let path = scratch.file("none.img")
        #expect {
            _ = try store(path, .shared(isReadOnly: false), sizeBytes: 4096)
        } throws: {
            "\($0)".contains("Make it: truncate -s 4096 \(path)")
        }
        #expect(unsafe access(path, F_OK) != 0)
        #expect {
            _ = try store(disk, .shared(isReadOnly: false), sizeBytes: 4096)
        } throws: {
            "\($0)".contains("has 1048576 bytes, not 4096: a file that is shared has one size")
        }
        _ = try store(disk, .shared(isReadOnly: false), sizeBytes: 1 << 20)
        // A device that is there already has the size that it has.
        _ = try store(disk, .shared(isReadOnly: false), sizeBytes: 4096, newFiles: nil)
    }

    @Test func `only a file is shared`() throws {
        func problem(_ settings: [Setting], _ backings: [BackingConfig] = []) -> String {
            refusal { () throws(ConfigError) in
                _ = try DeviceConfig(settings, backings: backings)
            }?.text ?? "accepted"
        }
        let shared = Setting.test("shared", true)
        #expect(
            problem([.test("size", "1M"), shared])
                == "shared = true: file = \"PATH\" beside it is expected"
        )
        let own = try BackingConfig(
            [.test("file", "b.img"), .test("shared", true)],
            origin: "t"
        )
        #expect(
            problem([.test("backing", .backing(1)), shared], [own])
                .contains("shared in the backing{} that has the file")
        )
        #expect(try DeviceConfig([.test("backing", .backing(1))], backings: [own]).isShared)
        let none = refusal { () throws(ConfigError) in
            _ = try BackingConfig([.test("size", "1M"), .test("shared", true)], origin: "t")
        }
        #expect(none?.text.contains("shared = true is for a file") == true)
    }

    @Test func `each file of a device is claimed as its own words say`() throws {
        let config = try DeviceConfig(
            [.test("file", "own"), .test("shared", true)],
            backings: [
                try BackingConfig([.test("file", "a")], origin: "t"),
                try BackingConfig([.test("file", "b"), .test("shared", true)], origin: "t"),
            ]
        )
        var asked: [String] = []
        _ = try DeviceStores<String>(config) { request in
            asked.append("\(request.path) \(request.isShared)")
            return (request.path, 1 << 20)
        }
        #expect(asked == ["a false", "b true", "own true"])
        var other = config
        other.isShared = false
        #expect(other.difference(from: config)?.key == "shared")
    }

    // MARK: Servers

    @Test func `devices that share a file tell so, keep their size, and are recovered`() throws {
        let path = disk
        let worlds = (ServerWorld(), ServerWorld())
        worlds.0.recovery = .reissue
        let settings = ["seed=7", "file=\(path)", "shared=true"]
        let first = try worlds.0.server(settings: settings)
        let record = try first.bringUp()
        #expect(record.isShared == true && record.file == AbsolutePath.of(path))
        let listing = DeviceListing(first.info, id: first.id, record: record)
        let words = listing.text.split { $0 == " " || $0 == "\n" }.joined(separator: " ")
        #expect(words.contains("(shared) seed 7") && listing.isShared == true)
        #expect(throws: FileStore.Problem.self) {
            _ = try worlds.1.server(settings: ["file=\(path)"])
        }
        let second = try worlds.1.server(settings: settings)
        _ = try second.bringUp()
        for size in ["4M", "512K"] {
            let answer = ControlAnswer(
                second.resize(try ResizeRequest(words: [size, "force"]))
            )
            #expect(!answer.isOK && answer.text.contains("shares \(path) with others"))
        }
        worlds.0.kill(first)
        let again = try worlds.0.server(settings: settings, recovering: record)
        #expect(try again.bringUp().isShared == true)
        try again.takeDown(deletes: true, patienceSeconds: 5)
        try second.takeDown(deletes: true, patienceSeconds: 5)
        #expect(unsafe access(path, F_OK) == 0)
    }
}
