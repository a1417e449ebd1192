import CUring
import SystemPackage

/// A ring of the kernel that this program runs on.
typealias Ring = KernelRing<LinuxKernel>

/// One io_uring: fill SQEs, enter, reap CQEs in batches.
///
/// Knows nothing of ublk's meaning.
///
/// Owned by one thread from `init` to `deinit` (SINGLE_ISSUER). A wait is one `io_uring_enter` that
/// submits what is queued and returns with at least one CQE or at the deadline. Completions seen by
/// a wait are handed out by ``nextCompletion()``; their slots go back to the kernel at the next
/// wait.
@safe
struct KernelRing<Kernel: UringKernel>: ~Copyable {
    // Safety: `ring` is allocated in init, freed in deinit, and never leaves this type except for
    // one call.
    private let ring: UnsafeMutablePointer<io_uring>
    private let kernel: Kernel
    private var head: UInt32 = 0
    private var tail: UInt32 = 0
    private var consumed: UInt32 = 0

    /// The deadline of a wait has passed: ETIME, which swift-system has no name for.
    private static var timerExpired: Int32 { 62 }

    enum Style {
        /// Data: 64-byte SQEs, one issuer, task work run only inside our own waits.
        case queue
        /// Control: 128-byte SQEs.
        case control
    }

    /// - Parameter entries: SQEs; rounded up to a power of two by the kernel, which gives twice as
    ///   many CQEs.
    /// - Throws: ENOSYS or EPERM where io_uring is missing or switched off, ENOMEM.
    init(entries: UInt32, style: Style, kernel: Kernel) throws(Errno) {
        let memory = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
        unsafe memory.initialize(to: io_uring())
        var result: Int32
        switch style {
        case .control:
            result = unsafe kernel.open(memory, entries: entries, flags: URING_SETUP_CONTROL_FLAGS)
        case .queue:
            result = unsafe kernel.open(memory, entries: entries, flags: URING_SETUP_QUEUE_FLAGS)
            // Kernels or sandboxes that refuse DEFER_TASKRUN still serve, a little slower.
            if result == -Errno.invalidArgument.rawValue {
                result = unsafe kernel.open(memory, entries: entries, flags: URING_SETUP_COOP_FLAGS)
            }
        }
        guard result == 0 else {
            unsafe memory.deallocate()
            throw Errno(rawValue: -result)
        }
        unsafe ring = memory
        self.kernel = kernel
        head = unsafe uring_cq_head(memory)
        tail = head
    }

    deinit {
        unsafe kernel.close(ring)
        unsafe ring.deallocate()
    }

    /// The next free SQE; sends the queued ones first when the ring is full.
    ///
    /// The caller fills all of it.
    @inline(__always)
    mutating func submission() -> UnsafeMutablePointer<uring_sqe> {
        if let sqe = unsafe io_uring_get_sqe(ring) { return unsafe sqe }
        return unsafe submissionAfterFlush()
    }

    private mutating func submissionAfterFlush() -> UnsafeMutablePointer<uring_sqe> {
        while true {
            let result = unsafe kernel.submit(ring)
            if let sqe = unsafe io_uring_get_sqe(ring) { return unsafe sqe }
            precondition(result >= 0 || Self.mayPass(result), "io_uring_submit: \(result)")
        }
    }

    /// Submits what is queued and waits for a completion, or until `timeoutNanoseconds` have
    /// passed.
    ///
    /// Returns at once when completions are already there. A signal does not end the wait and
    /// nothing is queued twice: liburing keeps what the kernel has not taken.
    ///
    /// - Parameter completions: wait for so many; after a signal fewer will do.
    mutating func wait(timeoutNanoseconds: UInt64?, completions: UInt32 = 1) {
        release()
        guard let timeoutNanoseconds else {
            repeat { enter(completions, timeoutNanoseconds: nil) } while tail == head
            return
        }
        let (sum, overflow) = sys_monotonic_ns().addingReportingOverflow(timeoutNanoseconds)
        let end = overflow ? UInt64.max : sum
        var rest = timeoutNanoseconds
        while true {
            enter(completions, timeoutNanoseconds: rest)
            let now = sys_monotonic_ns()
            if tail != head || now >= end { return }
            // A signal ended the wait early: what is left of it.
            rest = end - now
        }
    }

    private mutating func enter(_ completions: UInt32, timeoutNanoseconds: UInt64?) {
        let result = unsafe kernel.submitAndWait(
            ring,
            completions: completions,
            nanoseconds: timeoutNanoseconds
        )
        unsafe tail = uring_cq_tail(ring)
        guard result < 0 else { return }
        precondition(
            result == -Self.timerExpired || Self.mayPass(result),
            "io_uring_enter: errno \(-result)"
        )
    }

    /// The call was not carried out for a reason that lies in the machine, and is made again.
    private static func mayPass(_ result: Int32) -> Bool {
        switch -result {
        case Errno.interrupted.rawValue, Errno.resourceBusy.rawValue,
            Errno.resourceTemporarilyUnavailable.rawValue, Errno.noMemory.rawValue:
            true
        default: false
        }
    }

    /// Submits what is queued without waiting.
    mutating func submit() { _ = unsafe kernel.submit(ring) }

    /// The next completion of the batch that the last wait saw, nil at its end.
    @inline(__always)
    mutating func nextCompletion() -> (userData: UserData, result: Int32)? {
        guard head != tail else { return nil }
        guard let cqe = unsafe uring_cqe_at(ring, head) else { return nil }
        let completion = unsafe (UserData(rawValue: cqe.pointee.user_data), cqe.pointee.res)
        head &+= 1
        consumed &+= 1
        return completion
    }

    /// The flags of the completion that ``nextCompletion()`` has given last; before the next wait.
    var lastFlags: UInt32 {
        guard consumed != 0, let cqe = unsafe uring_cqe_at(ring, head &- 1) else { return 0 }
        return unsafe cqe.pointee.flags
    }

    private mutating func release() {
        guard consumed != 0 else { return }
        unsafe io_uring_cq_advance(ring, consumed)
        consumed = 0
    }

    /// Registers files; SQEs then name them by index.
    ///
    /// Once per ring.
    func register(files: [Int32]) throws(Errno) {
        let result = unsafe kernel.register(ring, files: files)
        guard result >= 0 else { throw Errno(rawValue: -result) }
    }

    /// Makes a table of empty buffers, which drivers fill and SQEs name by index.
    ///
    /// Once per ring.
    func register(emptyBuffers: UInt32) throws(Errno) {
        let result = unsafe kernel.register(ring, emptyBuffers: emptyBuffers)
        guard result >= 0 else { throw Errno(rawValue: -result) }
    }

    /// Makes a ring of buffers known, which commands that name group 0 choose from.
    ///
    /// Once per ring.
    ///
    /// - Parameters:
    ///   - bufferRing: whole pages of zeroes that outlive the ring, 16 bytes for each entry.
    ///   - entries: a power of two.
    func register(bufferRing: UnsafeMutableRawPointer, entries: UInt32) throws(Errno) {
        let result = unsafe kernel.register(ring, bufferRing: bufferRing, entries: entries)
        guard result >= 0 else { throw Errno(rawValue: -result) }
    }
}

extension KernelRing where Kernel == LinuxKernel {
    init(entries: UInt32, style: Style) throws(Errno) {
        try self.init(entries: entries, style: style, kernel: LinuxKernel())
    }
}
