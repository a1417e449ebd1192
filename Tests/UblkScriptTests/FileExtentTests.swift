import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// Where files lie, on whatever filesystem the tests run.
///
/// The device tests hold it against a real disk.
@Suite struct FileExtentTests {
    private func withFile(bytes: Int, _ body: (String) throws -> Void) throws {
        let path = "/var/tmp/ublk-script-extents-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let fd = unsafe open(path, O_RDWR | O_CREAT | O_EXCL, 0o600)
        try #require(fd >= 0)
        defer {
            close(fd)
            unsafe unlink(path)
        }
        let data = [UInt8](repeating: 7, count: bytes)
        try #require(unsafe write(fd, data, bytes) == bytes)
        try body(path)
    }

    @Test func `a file on another disk is refused, with what it is on and the way to find its own`()
    {
        let problem = FileExtents.Problem.elsewhere(
            path: "/a/b",
            disk: "/dev/ublkb0",
            reason: DiskBelow(device: 77).reason(filesystem: 0x0102_1994),
            isAbove: false
        )
        let text = "\(problem)"
        #expect(text.contains("/a/b is not on /dev/ublkb0"))
        #expect(text.contains("It is on a tmpfs, which is in memory. See: findmnt -T /a/b"))
    }

    @Test func `a disk that is none is refused`() throws {
        try withFile(bytes: 4096) { path in
            #expect { try FileExtents.of(path, onDisk: "/dev/null") } throws: {
                "\($0)".hasPrefix("/dev/null is no block device")
            }
        }
    }

    @Test func `btrfs is told to map addresses itself`() {
        let reason = DiskBelow(device: 77).reason(filesystem: 0x9123_683e)
        #expect(reason.hasPrefix("a btrfs, which maps the addresses"))
    }

    @Test func `what is no file is refused at once, a fifo too`() throws {
        let directory = ScratchDirectory()
        let fifo = directory.file("fifo")
        try #require(unsafe mkfifo(fifo, 0o600) == 0)
        for path in [fifo, "/dev/zero", directory.path] {
            #expect { try FileExtents.of(path, onDisk: "/dev/null") } throws: {
                "\($0)".contains("a regular file or a folder is expected")
            }
        }
    }

    @Test func `a folder is all files below it, each once, in order`() throws {
        let directory = ScratchDirectory()
        let folder = directory.file("folder")
        try #require(unsafe mkdir(folder, 0o700) == 0 && mkdir(folder + "/b", 0o700) == 0)
        for name in ["folder/c", "folder/b/d", "folder/a", "other"] { directory.write(name, "x") }
        try #require(unsafe link(folder + "/a", folder + "/e") == 0)
        try #require(unsafe symlink(directory.file("other"), folder + "/f") == 0)
        try #require(unsafe mkfifo(folder + "/g", 0o600) == 0)
        #expect(FilesBelow.of(folder) == ["a", "b/d", "c"].map { "\(folder)/\($0)" })
        #expect(FilesBelow.of(folder + "/") == FilesBelow.of(folder))
        #expect(FilesBelow.of(folder + "/f") == [folder + "/f"])
        for name in ["a", "b/d", "c", "e", "f", "g"] { unsafe unlink("\(folder)/\(name)") }
        unsafe rmdir(folder + "/b")
    }

    @Test func `what is not there is told by name`() {
        #expect { try FileExtents.of("/nonexistent/file", onDisk: "/dev/null") } throws: {
            "\($0)".contains("/nonexistent/file: open failed")
        }
    }
}
