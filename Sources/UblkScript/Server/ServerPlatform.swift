/// What a server stands on: the kernel, and programs of ours beside it; a test's stand-ins.
struct ServerPlatform {
    var access: any DriverAccess = KernelDriver()
    var clock = WaitClock.machine
    /// Starts the process that ``OutsideControl`` talks to.
    var companion: () throws(DeviceError) -> Companion = { () throws(DeviceError) in
        try Companion([OutsideControl.word])
    }
    /// The life of a queue's thread.
    var queue: @Sendable (QueueSeat) -> Void = { QueueThread.run($0) }
}
