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

    @Test func `a file on another disk is refused, with the way to find its own`() throws {
        try withFile(bytes: 4096) { path in
            #expect { try FileExtents.of(path, onDisk: "/dev/null") } throws: {
                let text = "\($0)"
                return text.contains("is not on /dev/null") && text.contains("findmnt -T \(path)")
            }
        }
    }

    @Test func `what is not there is told by name`() {
        #expect { try FileExtents.of("/nonexistent/file", onDisk: "/dev/null") } throws: {
            "\($0)".contains("/nonexistent/file: open failed")
        }
    }
}
