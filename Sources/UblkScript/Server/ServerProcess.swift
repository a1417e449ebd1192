import Glibc

/// The process that serves a device, seen from another one.
enum ServerProcess {
    /// True while the process runs and is one of ours: pids are used again.
    static func isAlive(_ pid: Int32) -> Bool {
        guard pid > 0 else { return false }
        let fd = unsafe open("/proc/\(pid)/comm", O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return false }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 32)
        let got = unsafe bytes.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        let name = String(decoding: bytes.prefix(max(0, got)), as: UTF8.self)
        return name.hasPrefix("ublk-script") && !isZombie(pid)
    }

    /// A killed server that its parent has not waited for serves nothing.
    private static func isZombie(_ pid: Int32) -> Bool {
        let fd = unsafe open("/proc/\(pid)/stat", O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return true }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 512)
        let got = unsafe bytes.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        let text = String(decoding: bytes.prefix(max(0, got)), as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return false }
        return text[end...].dropFirst(2).first == "Z"
    }

    /// Waits until the process is gone; false when it is not after `seconds`.
    static func waitForExit(_ pid: Int32, seconds: Int) -> Bool {
        for _ in 0..<(seconds * 100) {
            if !isAlive(pid) { return true }
            usleep(10_000)
        }
        return !isAlive(pid)
    }
}
