import Testing

@testable import UblkScript

/// Which mounts a server keeps.
@Suite struct MountNamespaceTests {
    @Test func `only what leads to a needed path stays mounted`() {
        let places = [
            "/", "/proc", "/proc/sys/fs/binfmt_misc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/shm",
            "/run", "/run/user/0", "/run/ublk-script", "/run/ublk", "/home", "/mnt/a b", "/prod",
        ]
        #expect(
            MountNamespace.others(places, than: ["/", "/proc", "/sys", "/dev", "/run/ublk-script"])
                == [
                    "/proc/sys/fs/binfmt_misc", "/sys/fs/cgroup", "/dev/shm", "/run/user/0",
                    "/run/ublk", "/home", "/mnt/a b", "/prod",
                ]
        )
    }

    @Test func `this process has a root`() {
        #expect(Mount.all(of: "self").contains { $0.place == "/" })
    }
}
