import CUring
import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// Records on disk, in a directory of the test's own.
@Suite struct StateDirectoryTests {
    private let scratch = ScratchDirectory()
    private var state: StateDirectory { StateDirectory(path: scratch.path) }

    private let record = DeviceRecord(
        id: 3,
        serverPID: 4711,
        cookie: 77,
        script: "/tmp/faulty.lua",
        backing: "file",
        file: "/tmp/disk \"1\".img",
        sizeBytes: 1 << 40,
        logicalBlockBytes: 4096,
        seed: .max,
        settings: ["size=1T", "--queues=2"]
    )

    @Test func `a record is read as it was written`() throws {
        try state.writeRecord(JSON.encode(record), of: DeviceID(3))
        let bytes = try #require(state.readRecord(DeviceID(3)))
        #expect(JSON.decode(DeviceRecord.self, bytes) == record)
        #expect(contents(of: scratch.file("3.json")) == JSON.text(record))
    }

    @Test func `a record replaces the one before whole, and leaves no temporary file`() throws {
        try state.writeRecord(Array(String(repeating: "x", count: 5000).utf8), of: DeviceID(3))
        try state.writeRecord(Array("short".utf8), of: DeviceID(3))
        #expect(state.readRecord(DeviceID(3)) == Array("short".utf8))
        #expect(DirectoryListing.names(scratch.path) == ["3.json"])
    }

    @Test func `a reader never sees half a record`() throws {
        let state = state
        let texts = [UInt8(ascii: "a"), UInt8(ascii: "b")].map {
            [UInt8](repeating: $0, count: 60_000)
        }
        try state.writeRecord(texts[0], of: DeviceID(1))
        var writers = ThreadList()
        writers.start("test-writer") {
            for round in 0..<300 { try? state.writeRecord(texts[round % 2], of: DeviceID(1)) }
        }
        for _ in 0..<300 {
            let found = state.readRecord(DeviceID(1))
            #expect(found == texts[0] || found == texts[1])
        }
        writers.joinAll()
    }

    @Test func `a record that cannot be written leaves the old one`() throws {
        try state.writeRecord(Array("old".utf8), of: DeviceID(3))
        // In the place of the temporary file: it cannot be made.
        unsafe mkdir(scratch.file(".3.json.tmp"), 0o700)
        #expect { try state.writeRecord(Array("new".utf8), of: DeviceID(3)) } throws: { error in
            guard case .system("create", _, .fileExists) = error as? DeviceError else {
                return false
            }
            return true
        }
        #expect(state.readRecord(DeviceID(3)) == Array("old".utf8))
    }

    @Test func `a write that fails says why`() throws {
        let full = unsafe open("/dev/full", O_WRONLY | O_CLOEXEC)
        try #require(full >= 0)
        defer { close(full) }
        #expect(StateDirectory.write(Array("new".utf8), to: full) == .noSpace)
        #expect(StateDirectory.write([], to: full) == nil)
    }

    @Test func `no file is reached through a link`() throws {
        let other = scratch.file("other")
        scratch.write("other", "untouched")
        for name in [".3.json.tmp", "3.json", "3.log"] {
            unsafe symlink(other, scratch.file(name))
        }
        #expect(state.readRecord(DeviceID(3)) == nil)
        try state.writeRecord(Array("new".utf8), of: DeviceID(3))
        #expect(state.readRecord(DeviceID(3)) == Array("new".utf8))
        try LogSink(path: state.logPath(DeviceID(3))).write("line")
        #expect(contents(of: scratch.file("3.log")) == "line\n")
        #expect(contents(of: other) == "untouched")
    }

    @Test(arguments: [0o777, 0o775, 0o757, 0o1777])
    func `a directory that others may write to is not used`(mode: UInt32) throws {
        try state.check()
        unsafe chmod(scratch.path, mode)
        defer { unsafe chmod(scratch.path, 0o700) }
        for use in [state.check, state.create] {
            #expect { try use() } throws: { error in
                "\(error)".contains("\(scratch.path) is not used")
                    && "\(error)".contains("mode \(String(mode, radix: 8))")
            }
        }
    }

    @Test func `a directory of another user's, a link to one and a file are not used`() throws {
        unsafe mkdir(scratch.file("own"), 0o700)
        unsafe symlink(scratch.file("own"), scratch.file("link"))
        scratch.write("file", "")
        #expect(throws: DeviceError.self) {
            try StateDirectory(path: scratch.file("link")).check()
        }
        #expect(throws: DeviceError.self) {
            try StateDirectory(path: scratch.file("file")).create()
        }
        try StateDirectory(path: scratch.file("missing")).check()
        guard unsafe chown(scratch.file("own"), 65534, 65534) == 0 else { return }
        #expect(throws: DeviceError.self) { try StateDirectory(path: scratch.file("own")).check() }
    }

    @Test func `lines that could not be logged are counted`() throws {
        let log = unsafe open("/dev/full", O_WRONLY | O_CLOEXEC)
        try #require(log >= 0)
        defer { close(log) }
        let sink = LogSink(fd: log)
        sink.write("lost")
        sink.write("lost too")
        scratch.write("log", "")
        let file = unsafe open(scratch.file("log"), O_WRONLY | O_CLOEXEC)
        dup2(file, log)
        close(file)
        sink.write("third")
        sink.write("fourth")
        let text = try #require(contents(of: scratch.file("log")))
        #expect(text.contains(" warning 2 lines of this log were lost: ENOSPC\nthird\nfourth\n"))
    }

    @Test func `recorded ids come in order of number, and only records count`() throws {
        for id in [10, 9, 0, 100, 1_048_575] as [UInt32] {
            try state.writeRecord(Array("{}".utf8), of: DeviceID(id))
        }
        for name in [
            "x.json", "-1.json", "7.sock", "8.log", ".6.json.tmp", "1048576.json", "5.json.bak",
        ] {
            scratch.write(name, "")
        }
        #expect(state.recordedIDs().map(\.rawValue) == [0, 9, 10, 100, 1_048_575])
    }

    @Test func `removing takes record, scripts, socket and logs, and nothing of others`() throws {
        let own = [
            "3.json", "3.lua", "3.1.lua", "3.sock", "3.log", "3.log.1", "3.recovering",
        ]
        for name in own + ["33.json", "4.log", "4.lua"] {
            scratch.write(name, "x")
        }
        state.remove(DeviceID(3))
        #expect(DirectoryListing.names(scratch.path).sorted() == ["33.json", "4.log", "4.lua"])
        state.remove(DeviceID(3))
    }

    @Test func `a script is its owner's to read, and is put back with the record`() throws {
        try state.writeScript(Array("-- \u{e9}\n".utf8), of: DeviceID(3), bank: 1)
        try state.writeRecord(Array("{}".utf8), of: DeviceID(3))
        var status = stat()
        #expect(unsafe stat(state.scriptPath(DeviceID(3), bank: 1), &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        let kept = state.copy(of: DeviceID(3))
        state.remove(DeviceID(3))
        #expect(DirectoryListing.names(scratch.path).isEmpty)
        state.putBack(kept, of: DeviceID(3))
        #expect(DirectoryListing.names(scratch.path).sorted() == ["3.1.lua", "3.json"])
        #expect(contents(of: scratch.file("3.1.lua")) == "-- \u{e9}\n")
        #expect(state.readRecord(DeviceID(3)) == Array("{}".utf8))
    }

    @Test func `a mark is made by one only, goes with the record and is put back`() throws {
        let id = DeviceID(3)
        #expect(try state.makeMark(pid: 17, of: id) == nil)
        #expect(try state.makeMark(pid: 18, of: id) == 17)
        let kept = state.copy(of: id)
        state.remove(id)
        #expect(DirectoryListing.names(scratch.path).isEmpty)
        state.putBack(kept, of: id)
        #expect(try state.makeMark(pid: 18, of: id) == 17)
        state.removeMark(of: id)
        scratch.write("3.recovering", "no link")
        #expect(try state.makeMark(pid: 18, of: id) == 0, "it is there, whatever it is")
        state.remove(id)
        #expect(throws: DeviceError.self) {
            try StateDirectory(path: scratch.file("none")).makeMark(pid: 1, of: id)
        }
    }

    @Test func `nothing is there before the first record`() {
        #expect(state.recordedIDs().isEmpty)
        #expect(state.readRecord(DeviceID(0)) == nil)
        scratch.write("0.json", "")
        #expect(state.readRecord(DeviceID(0)) == [], "there is one, and it is damaged")
        #expect(StateDirectory(path: "/nonexistent").recordedIDs().isEmpty)
    }

    @Test func `the directory is made when it is missing, once`() throws {
        let inner = StateDirectory(path: scratch.file("inner"))
        try inner.create()
        try inner.create()
        #expect(DirectoryListing.names(scratch.path) == ["inner"])
        let deep = StateDirectory(path: scratch.file("no/where"))
        #expect { try deep.create() } throws: { error in
            guard case .system("mkdir", _, .noSuchFileOrDirectory) = error as? DeviceError else {
                return false
            }
            return true
        }
    }

    @Test func `a user has a folder of his own, where his login says or in run`() {
        let own = StateDirectory.of(1001, runtimeFolder: "/home/bob/run")
        #expect(own.path == "/home/bob/run/ublk-script")
        for folder in [nil, "", "run"] {
            let state = StateDirectory.of(1001, runtimeFolder: folder)
            #expect(state.path == "/run/user/1001/ublk-script" && state.isPrivate)
        }
        #expect(!StateDirectory.of(0, runtimeFolder: "/home/bob/run").isPrivate)
    }

    @Test func `a user's folder is his alone, and is not used otherwise`() throws {
        let own = StateDirectory(path: scratch.file("own"), isPrivate: true)
        try own.check()
        try own.create()
        var status = stat()
        #expect(unsafe stat(own.path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o700)
        for mode: mode_t in [0o755, 0o710, 0o701, 0o720] {
            unsafe chmod(own.path, mode)
            #expect { try own.create() } throws: {
                "\($0)".contains("\(own.path) is not used") && "\($0)".contains("XDG_RUNTIME_DIR")
            }
        }
        unsafe chmod(own.path, 0o700)
        try own.check()
        let nowhere = StateDirectory(path: scratch.file("no/where"), isPrivate: true)
        #expect { try nowhere.create() } throws: {
            "\($0)".contains("(ENOENT)") && "\($0)".contains("set XDG_RUNTIME_DIR")
        }
        guard unsafe chown(own.path, 65534, 65534) == 0 else { return }
        #expect(throws: DeviceError.self) { try own.check() }
    }

    @Test func `names carry the number`() {
        let standard = StateDirectory.of(0, runtimeFolder: nil)
        #expect(standard.recordPath(DeviceID(7)) == "/run/ublk-script/7.json")
        #expect(standard.socketPath(DeviceID(7)) == "/run/ublk-script/7.sock")
        #expect(standard.logPath(DeviceID(7)) == "/run/ublk-script/7.log")
    }
}
