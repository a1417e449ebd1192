import CUring

/// The kernel's side of a ring: the calls that reach it, and nothing of what they mean.
///
/// Apart from the ring, so that a test can be the kernel: one that refuses flags, that interrupts a wait, that takes
/// only some of what it is given. The ring's thread.
protocol UringKernel {
    /// Makes a ring.
    ///
    /// - Returns: 0 or a negative errno.
    func open(_ ring: UnsafeMutablePointer<io_uring>, entries: UInt32, flags: UInt32) -> Int32
    /// Ends a ring that was opened.
    func close(_ ring: UnsafeMutablePointer<io_uring>)
    /// Hands over what is queued.
    ///
    /// - Returns: how many were taken, or a negative errno; what was not taken stays queued.
    func submit(_ ring: UnsafeMutablePointer<io_uring>) -> Int32
    /// The same, and waits until there are so many completions.
    ///
    /// - Parameter nanoseconds: at most so long; nil: for ever.
    func submitAndWait(
        _ ring: UnsafeMutablePointer<io_uring>,
        completions: UInt32,
        nanoseconds: UInt64?
    ) -> Int32
    /// Makes a ring of buffers, in our memory, known as group 0.
    ///
    /// - Returns: a negative errno when it is not.
    func register(
        _ ring: UnsafeMutablePointer<io_uring>,
        bufferRing: UnsafeMutableRawPointer,
        entries: UInt32
    ) -> Int32
    /// Makes the files known by their index.
    ///
    /// - Returns: a negative errno when they are not.
    func register(_ ring: UnsafeMutablePointer<io_uring>, files: [Int32]) -> Int32
    /// Makes a table of so many buffers, all empty.
    ///
    /// - Returns: a negative errno when it is not made.
    func register(_ ring: UnsafeMutablePointer<io_uring>, emptyBuffers: UInt32) -> Int32
}

/// The kernel that this program runs on, through liburing.
///
/// No state, and a type that the compiler knows at each use: it costs nothing.
struct LinuxKernel: UringKernel {
    @inline(__always)
    func open(_ ring: UnsafeMutablePointer<io_uring>, entries: UInt32, flags: UInt32) -> Int32 {
        unsafe io_uring_queue_init(entries, ring, flags)
    }

    @inline(__always)
    func close(_ ring: UnsafeMutablePointer<io_uring>) { unsafe io_uring_queue_exit(ring) }

    @inline(__always)
    func submit(_ ring: UnsafeMutablePointer<io_uring>) -> Int32 { unsafe io_uring_submit(ring) }

    @inline(__always)
    func submitAndWait(
        _ ring: UnsafeMutablePointer<io_uring>,
        completions: UInt32,
        nanoseconds: UInt64?
    ) -> Int32 {
        guard let nanoseconds else { return unsafe io_uring_submit_and_wait(ring, completions) }
        // The kernel adds it to its clock, which near infinity comes out in the past; a day at a time.
        let bounded = min(nanoseconds, 86_400_000_000_000)
        var timeout = __kernel_timespec(
            tv_sec: Int64(bounded / 1_000_000_000),
            tv_nsec: Int64(bounded % 1_000_000_000)
        )
        var ignored: UnsafeMutablePointer<io_uring_cqe>?
        return unsafe io_uring_submit_and_wait_timeout(
            ring,
            &ignored,
            completions,
            &timeout,
            nil
        )
    }

    func register(_ ring: UnsafeMutablePointer<io_uring>, files: [Int32]) -> Int32 {
        unsafe files.withUnsafeBufferPointer {
            unsafe io_uring_register_files(ring, $0.baseAddress, UInt32($0.count))
        }
    }

    func register(_ ring: UnsafeMutablePointer<io_uring>, emptyBuffers: UInt32) -> Int32 {
        unsafe io_uring_register_buffers_sparse(ring, emptyBuffers)
    }

    func register(
        _ ring: UnsafeMutablePointer<io_uring>,
        bufferRing: UnsafeMutableRawPointer,
        entries: UInt32
    ) -> Int32 {
        unsafe uring_register_buffer_ring(ring, bufferRing, entries, 0)
    }
}
