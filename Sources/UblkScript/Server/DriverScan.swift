/// The partition scan that the driver of kernels before 7.0 makes by itself, in START_DEV or in a worker afterwards.
///
/// Nothing reports its end. It reads without pauses, so it is over when the disk has been idle for a while.
enum DriverScan {
    private static let pauseMilliseconds = 30

    /// Waits until the scan is over, for about a second at most.
    ///
    /// - Parameter served: the number of IOs served so far.
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
            // While a queue's thread is not scheduled its read is still in flight, so the disk is not idle.
            quiet = now == last && now > 0 && !access.isDiskBusy(device) ? quiet + 1 : 0
            last = now
        }
    }
}
