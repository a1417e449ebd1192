import SystemPackage

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
    /// Locks what memory this process has or gets.
    var lockMemory: () throws(Errno) -> Void = { () throws(Errno) in try LockedMemory.lock() }
    /// Memory that the machine can give, bytes; nil: it does not tell.
    var availableMemory: () -> UInt64? = { LockedMemory.availableBytes }
    /// Whether an open file is on a filesystem in memory.
    var isInMemory = MappedFile.isInMemory
    /// The driver lets this process make devices of root's.
    var isAdministrator = Privilege.isAdministrator
    /// As `uname -r` prints it.
    var kernelRelease = KernelFlaw.runningRelease
}
