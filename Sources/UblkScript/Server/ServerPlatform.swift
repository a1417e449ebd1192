/// What a server depends on from outside: driver, clock, companion process, queue threads, kernel; tests replace them.
struct ServerPlatform {
    var access: any DriverAccess = KernelDriver()
    var clock = WaitClock.machine
    /// Starts the process that ``OutsideControl`` talks to.
    var companion: () throws(DeviceError) -> Companion = { () throws(DeviceError) in
        try Companion([OutsideControl.word])
    }
    /// The body of a queue's thread.
    var queue: @Sendable (QueueContext) -> Void = { QueueThread.run($0) }
    /// As `uname -r` prints it.
    var kernelRelease = KernelFlaw.runningRelease
}
