import Glibc

/// The kernel as a queue of a device needs it: a ring, and copies from and to the requests of `/dev/ublkcN`.
///
/// The copies are plain calls on the queue's thread. The driver copies between pages that are there and waits for
/// nothing; a read or write through the ring would be handed to a worker thread, because the file does not claim that
/// it never blocks, and take longer.
protocol DriverKernel: UringKernel {
    /// Reads from a position of a file.
    ///
    /// - Returns: bytes or a negative errno.
    func read(
        _ fd: Int32,
        _ place: UnsafeMutableRawPointer,
        count: Int,
        at position: Int64
    ) -> Int
    /// Writes to a position of a file.
    ///
    /// - Returns: bytes or a negative errno.
    func write(
        _ fd: Int32,
        _ place: UnsafeMutableRawPointer,
        count: Int,
        at position: Int64
    ) -> Int
}

extension LinuxKernel: DriverKernel {
    func read(
        _ fd: Int32,
        _ place: UnsafeMutableRawPointer,
        count: Int,
        at position: Int64
    ) -> Int { retrying { unsafe pread(fd, place, count, off_t(position)) } }

    func write(
        _ fd: Int32,
        _ place: UnsafeMutableRawPointer,
        count: Int,
        at position: Int64
    ) -> Int { retrying { unsafe pwrite(fd, place, count, off_t(position)) } }

    /// Calls again after a signal.
    @inline(__always)
    private func retrying(_ call: () -> Int) -> Int {
        while true {
            let result = call()
            if result >= 0 { return result }
            let errno = Glibc.errno
            if errno != EINTR { return -Int(errno) }
        }
    }
}

extension DriverTransport where Kernel == LinuxKernel {
    /// Makes a transport to the running kernel.
    init(
        queue: QueueID,
        memory: TagBuffers,
        mode: DataMode,
        shared: SharedBuffer?,
        descriptorBytes: Int,
        characterFD: Int32,
        wakeupFD: Int32,
        backingFDs: [Int32]
    ) throws(DeviceError) {
        try self.init(
            queue: queue,
            memory: memory,
            mode: mode,
            shared: shared,
            descriptorBytes: descriptorBytes,
            characterFD: characterFD,
            wakeupFD: wakeupFD,
            backingFDs: backingFDs,
            kernel: LinuxKernel()
        )
    }
}
