import Glibc

/// The partition scan that the driver makes by itself before 7.0: in START_DEV, or in a worker some
/// time after it.
///
/// Nothing tells when it is over. It reads at once and in one go, so a pause in which the disk has
/// nothing to do means that it is.
enum DriverScan {
    private static let pauseMilliseconds = 30

    /// - Parameter served: a number that changes while the device serves.
    static func waitForEnd(of device: DeviceID, served: () -> UInt64) {
        var quiet = 0
        var last = served()
        for _ in 0..<1000 where quiet < pauseMilliseconds {
            usleep(1000)
            let now = served()
            // A queue that the machine does not let run is no pause: its read is under way.
            quiet = now == last && now > 0 && !isBusy(device) ? quiet + 1 : 0
            last = now
        }
    }

    /// Whether reads or writes are under way; false when nothing tells.
    private static func isBusy(_ device: DeviceID) -> Bool {
        let fd = unsafe open("/sys/block/ublkb\(device)/inflight", O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return false }
        defer { close(fd) }
        var text = [UInt8](repeating: 0, count: 64)
        let got = unsafe text.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        return text.prefix(max(0, got)).contains {
            (UInt8(ascii: "1")...UInt8(ascii: "9")).contains($0)
        }
    }
}
