import Glibc

/// The server process of a device, as other processes see it in `/proc`.
enum ServerProcess {
    /// True while the process runs and has this program's name, as a pid may have been reused.
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

    /// True when the process has the command line of a server.
    static func isServer(_ pid: String) -> Bool {
        let words = arguments(pid)
        return !Set(words).isDisjoint(with: ["serve", "serve-again", "add", "recover"])
    }

    /// True for the server of the device with that cookie.
    static func isServer(_ pid: String, cookie: UInt64) -> Bool {
        arguments(pid).contains("--cookie=\(cookie)")
    }

    private static func arguments(_ pid: String) -> [String] {
        let fd = unsafe open("/proc/\(pid)/cmdline", O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return [] }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 65536)
        let got = unsafe bytes.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        return bytes.prefix(max(0, got)).split(separator: 0).prefix(3).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    /// The state of a process as in `/proc/PID/stat`: `T` is stopped, `D` waits in the kernel, `Z` is a zombie; nil
    /// when there is no such process.
    static func state(_ pid: Int32) -> Character? {
        let fd = unsafe open("/proc/\(pid)/stat", O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 512)
        let got = unsafe bytes.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        let text = String(decoding: bytes.prefix(max(0, got)), as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return nil }
        return text[end...].dropFirst(2).first
    }

    /// True for a process that has ended, even if its parent has not reaped it.
    private static func isZombie(_ pid: Int32) -> Bool {
        let state = state(pid)
        return state == nil || state == "Z"
    }

    /// Waits until the process has ended; false when it has not after `seconds`.
    static func waitForExit(_ pid: Int32, seconds: Int) -> Bool {
        for _ in 0..<(seconds * 100) {
            if !isAlive(pid) { return true }
            usleep(10_000)
        }
        return !isAlive(pid)
    }
}
