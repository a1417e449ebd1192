import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// Names of disks in the kernel's tables, and files that are not what their name says.
@Suite struct DeviceUsersTests {
    private let scratch = ScratchDirectory()

    @Test(arguments: [
        ("/dev/ublkb7", true), ("/dev/ublkb7p1", true), ("/dev/ublkb7p12", true),
        ("/dev/ublkb7 (deleted)", true), ("/dev/ublkb7p1 (deleted)", true),
        ("/dev/ublkb7(deleted)", true), ("/dev/ublkb70", false), ("/dev/ublkb7x", false),
        ("/dev/ublkc7", false), ("/tmp/dev/ublkb7", false), ("", false),
    ])
    func `a disk has its own name and those of its partitions`(path: String, isIts: Bool) {
        #expect(DiskNames(DeviceID(7)).has(path) == isIts)
    }

    @Test func `the number of a disk is in its name`() {
        #expect(DiskNames.id(of: "/dev/ublkb12p3 (deleted)") == DeviceID(12))
        #expect(DiskNames.id(of: "/dev/ublkb0") == DeviceID(0))
        #expect(DiskNames.id(of: "/dev/ublkc0") == nil)
        #expect(DiskNames.id(of: "/dev/ublkbx") == nil)
    }

    @Test(arguments: [
        ("/mnt/a\\040b", "/mnt/a b"), ("\\134\\011", "\\\t"), ("plain", "plain"), ("", ""),
        ("a\\", "a\\"), ("\\9zz", "\\9zz"), ("gr\\303\\266\\303\\237e", "größe"),
    ])
    func `the escapes of the kernel's tables are undone`(text: String, expected: String) {
        #expect(KernelTable.unescaped(text) == expected)
    }

    @Test func `nobody uses a device that is not there`() {
        let users = DeviceUsers(of: DeviceID(DeviceID.maximum))
        #expect(users == DeviceUsers(of: DeviceID(DeviceID.maximum - 1)))
        #expect(users.holders.isEmpty && users.openers.isEmpty)
        #expect(users.descriptionOfDeleted == "deleted, still held by the kernel")
    }

    @Test func `a name that is none of a ublk device is not checked`() throws {
        try DeviceNode.check("/dev/null")
        try DeviceNode.check("ublkb0")
        try DeviceNode.check("/dev/ublkb\(DeviceID.maximum)")
    }

    @Test(arguments: ["/dev/sdx", "/proc/sdx", "/sys/sdx", "/dev/../dev/sdx"])
    func `no file is made below the kernel's folders`(path: String) {
        #expect {
            _ = try FileStore(
                path: path,
                sizeBytes: 4096,
                claim: .exclusive,
                newFiles: NewFiles()
            )
        } throws: {
            "\($0)".contains(path) && "\($0)".contains("no file is made")
        }
        #expect(unsafe access(path, F_OK) != 0)
    }

    @Test func `a link to a kernel's folder is seen through`() {
        unsafe symlink("/dev", scratch.file("link"))
        #expect {
            _ = try FileStore(
                path: scratch.file("link/sdx"),
                sizeBytes: 4096,
                claim: .exclusive,
                newFiles: NewFiles()
            )
        } throws: { "\($0)".contains("no file is made") }
    }

    @Test(arguments: [FileClaim.exclusive, .readOnly, .shared(isReadOnly: false)])
    func `a fifo is no backing, and nobody waits for its writer`(claim: FileClaim) {
        let fifo = scratch.file("fifo")
        #expect(unsafe mkfifo(fifo, 0o600) == 0)
        let outcome = Promise<String>()
        // Not this thread: it would wait for ever.
        OSThread(name: "test-open") {
            do throws(FileStore.Problem) {
                _ = try FileStore(
                    path: fifo,
                    sizeBytes: 4096,
                    claim: claim,
                    newFiles: NewFiles()
                )
                outcome.fulfil("it was opened")
            } catch { outcome.fulfil("\(error)") }
        }.detach()
        let text = outcome.wait(seconds: 5) ?? "nothing within 5 s"
        #expect(text.contains("neither a regular file nor a block device"), "\(text)")
    }

    @Test func `a file that was made is removed from wherever it was made`() throws {
        let newFiles = NewFiles()
        func open(_ name: String, sizeBytes: UInt64) throws {
            _ = try FileStore(
                path: scratch.file(name),
                sizeBytes: sizeBytes,
                claim: .exclusive,
                newFiles: newFiles
            )
        }
        scratch.write("own", "x")
        try open("disk", sizeBytes: 4096)
        try open("own", sizeBytes: 1)
        newFiles.removeAll()
        #expect(unsafe access(scratch.file("disk"), F_OK) != 0)
        #expect(unsafe access(scratch.file("own"), F_OK) == 0)
        // and one that could not be made as large as it was to be
        #expect(throws: FileStore.Problem.self) { try open("large", sizeBytes: 1 << 62) }
        #expect(unsafe access(scratch.file("large"), F_OK) != 0)
    }

    /// Somebody who ends the process in the middle of it has to know of the file.
    @Test func `a file that is being made is removed by who comes then`() throws {
        let newFiles = NewFiles()
        let path = scratch.file("disk")
        let isMade = Promise<Bool>()
        let thread = OSThread(name: "maker") {
            let fd = newFiles.make(path) {
                let fd = unsafe open(path, O_RDWR | O_CREAT | O_EXCL, 0o600)
                isMade.fulfil(true)
                TestHost.sleep(milliseconds: 50)
                return fd
            }
            close(fd)
        }
        #expect(isMade.wait(seconds: 10) == true)
        newFiles.removeAll()
        #expect(unsafe access(path, F_OK) != 0)
        thread.join()
    }

    @Test(arguments: ["0s", "x", "2h", "500ms", "-1s"])
    func `a patience that is none is refused`(text: String) throws {
        try #require(ProgramRun.program != nil)
        for words in [["del", "0"], ["stop", "0"], ["add", "flakey"]] {
            let run = ProgramRun(words + ["--patience=\(text)"], in: scratch)
            #expect(run.exitCode == 2)
            #expect(run.errors.contains("a time from 1s to 1h is expected"), "\(run.errors)")
        }
    }
}
