/// The partition scan that the driver makes by itself before 7.0: in START_DEV, or in a worker some
/// time after it.
///
/// Nothing tells when it is over. It reads at once and in one go, so a pause in which the disk has
/// nothing to do means that it is.
enum DriverScan {
    private static let pauseMilliseconds = 30

    /// - Parameter served: a number that changes while the device serves.
    static func waitForEnd(
        of device: DeviceID,
        _ access: any DriverAccess,
        _ clock: WaitClock,
        served: () -> UInt64
    ) {
        var quiet = 0
        var last = served()
        for _ in 0..<1000 where quiet < pauseMilliseconds {
            clock.pause(1)
            let now = served()
            // A queue that the machine does not let run is no pause: its read is under way.
            quiet = now == last && now > 0 && !access.isDiskBusy(device) ? quiet + 1 : 0
            last = now
        }
    }
}
