import Glibc

/// What the kernel lets this process do.
enum Privilege {
    /// CAP_SYS_ADMIN of the machine: root of a container has it in the container's user namespace only, and is a user
    /// like others to the ublk driver.
    static var isAdministrator: Bool {
        guard isInMachinesNamespace, let word = capabilities, let bits = UInt64(word, radix: 16)
        else { return false }
        return bits >> systemAdministration & 1 != 0
    }

    /// C: `CAP_SYS_ADMIN`.
    private static let systemAdministration: UInt64 = 21
    /// C: `PROC_USER_INIT_INO`.
    private static let machinesNamespace = "user:[4026531837]"

    private static var isInMachinesNamespace: Bool {
        var bytes = [CChar](repeating: 0, count: 64)
        let count = unsafe readlink("/proc/self/ns/user", &bytes, bytes.count)
        // A kernel without user namespaces has no such file.
        guard count > 0 else { return true }
        return bytes.prefix(count).map { UInt8(bitPattern: $0) } == Array(machinesNamespace.utf8)
    }

    /// The effective ones, hexadecimal.
    private static var capabilities: Substring? {
        KernelTable.lines("/proc/self/status")?.first { $0.hasPrefix("CapEff:") }?
            .split(separator: "\t").last
    }
}
