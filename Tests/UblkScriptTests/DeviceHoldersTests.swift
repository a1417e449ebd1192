import Glibc
import Testing

@testable import UblkScript

/// What holds a device, as the kernel tells it: read from a folder that has a few files of `/sys` and `/proc`.
@Suite struct DeviceHoldersTests {
    private let scratch = ScratchDirectory()

    /// - Parameter lines: of bash, which make the files below the folder they run in.
    private func users(_ lines: String) -> DeviceUsers {
        let root = scratch.file("root")
        let made = ProgramRun(
            shell: "set -e; mkdir \(root); cd \(root); mkdir -p sys/block/ublkb7; \(lines)",
            in: scratch
        )
        #expect(made.exitCode == 0, "\(made.errors)")
        defer { _ = ProgramRun(shell: "rm -r \(root)", in: scratch) }
        return DeviceUsers(of: DeviceID(7), root: root)
    }

    private static let mountOfBtrfs =
        "mkdir -p proc/self/ns; ln -s 'mnt:[1]' proc/self/ns/mnt; "
        + "echo '36 25 0:44 / /mnt/a\\040b rw - btrfs /dev/ublkb7 rw' >proc/self/mountinfo; "

    @Test(
        arguments: [
            ("mkdir -p sys/block/ublkb7/holders/md127", ["beneath md127"]),
            (
                "mkdir -p sys/block/ublkb7/ublkb7p1/holders/md0 sys/block/ublkb7/ublkb7p12/holders/md1",
                ["beneath md0", "beneath md1"]
            ),
            (
                "mkdir -p sys/block/ublkb7/holders/dm-3 sys/block/dm-3/dm; echo top >sys/block/dm-3/dm/name",
                ["beneath dm-3 (top)"]
            ),
            (
                "mkdir -p sys/block/ublkb7/holders/bcache0 sys/block/ublkb7/bcache/dev",
                ["beneath bcache0"]
            ),
            (
                "mkdir -p proc/self/ns proc/self/mountinfo; ln -s 'mnt:[1]' proc/self/ns/mnt",
                ["perhaps mounted, as /proc/self/mountinfo cannot be read"]
            ),
            // That of a server, which has left all mounts.
            (
                "mkdir -p proc/self/ns; ln -s 'mnt:[1]' proc/self/ns/mnt; touch proc/self/mountinfo",
                []
            ),
            ("mkdir -p proc/swaps", ["perhaps used as swap, as /proc/swaps cannot be read"]),
            ("mkdir -p sys/block/ublkb7/bcache/set", ["part of a bcache"]),
            (
                "mkdir -p sys/block/loop4/loop; echo /dev/ublkb7p2 >sys/block/loop4/loop/backing_file",
                ["beneath /dev/loop4"]
            ),
            (
                "mkdir -p sys/block/loop4/loop; echo /dev/ublkb70 >sys/block/loop4/loop/backing_file",
                []
            ),
            // The second device of a filesystem: mountinfo names the first one.
            (
                "mkdir -p sys/fs/btrfs/0b1c/devices/{ublkb7p1,sda}",
                ["part of a mounted btrfs (0b1c)"]
            ),
            ("mkdir -p sys/fs/btrfs/0b1c/devices/ublkb77 sys/fs/btrfs/features", []),
            (
                mountOfBtrfs + "mkdir -p sys/fs/btrfs/0b1c/devices/ublkb7",
                ["mounted at /mnt/a b (btrfs)"]
            ),
            (
                "mkdir proc; printf 'Filename Type\\n/dev/ublkb7p1\\tpartition\\n' >proc/swaps",
                ["used as swap"]
            ),
            (
                mountOfBtrfs
                    + "mkdir -p proc/12/ns; ln -s 'mnt:[2]' proc/12/ns/mnt; echo sh >proc/12/comm; "
                    + "echo 259:3 >sys/block/ublkb7/dev; "
                    + "echo '36 25 259:3 / /x rw shared:1 - ext4 /dev/root rw' >proc/12/mountinfo",
                ["mounted at /mnt/a b (btrfs)", "mounted at /x (ext4) for 12 sh"]
            ),
            ("true", []),
        ] as [(String, [String])]
    )
    func `what holds a device is found and named`(lines: String, holders: [String]) {
        let users = users(lines)
        #expect(users.holders.sorted() == holders)
        #expect(users.openers.isEmpty)
    }

    @Test func `a program that merely has it open holds nothing`() {
        let users = users(
            "mkdir -p proc/12/fd; echo sleep >proc/12/comm; ln -s /dev/ublkb7 proc/12/fd/3; "
                + "ln -s /dev/ublkb70 proc/12/fd/4"
        )
        #expect(users.holders.isEmpty)
        #expect(users.openers == ["12 sleep"])
    }
}
