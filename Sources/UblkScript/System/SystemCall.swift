import CUring
import Glibc
import SystemPackage

/// System calls around a block device that Swift cannot name (GNU-only, variadic, macros).
///
/// Any thread.
///
/// Each throws the call's `Errno`.
enum SystemCall {
    /// The time of CLOCK_MONOTONIC in nanoseconds.
    static var monotonicNanoseconds: UInt64 { sys_monotonic_ns() }
    /// CPU time of the calling thread.
    static var threadCPUNanoseconds: UInt64 { sys_thread_cpu_ns() }
    /// Wall clock as `2026-11-21T11:00:00.123Z`.
    static var timestamp: String {
        var text = [CChar](repeating: 0, count: 32)
        unsafe sys_timestamp(&text, text.count)
        return String(
            decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) },
            as: UTF8.self
        )
    }

    /// The number of possible CPUs of this machine; the driver makes at most one queue per CPU.
    static var cpus: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_CONF))) }

    /// A new eventfd at 0, close-on-exec.
    static func makeEventFD() throws(Errno) -> Int32 { try check(sys_eventfd()) }

    /// Adds one to an eventfd that a thread waits at.
    ///
    /// That thread would wait for ever, and with it whoever joins it, so a call that fails (a signal, no memory) is
    /// made again.
    static func notify(_ eventFD: Int32) {
        var one: UInt64 = 1
        for _ in 0..<1000 where unsafe write(eventFD, &one, 8) == 8 { return }
    }

    /// A pipe of which neither end waits, close-on-exec.
    static func makePipe() throws(Errno) -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        _ = try check(unsafe sys_pipe(&ends))
        return (ends[0], ends[1])
    }

    /// The next connection of a listening socket, which does not wait, close-on-exec.
    static func acceptConnection(_ socket: Int32) throws(Errno) -> Int32 {
        try check(sys_accept(socket))
    }

    /// Blocks `signals` in this thread and those it starts from now on; they are read from the fd
    /// instead.
    static func makeSignalFD(_ signals: [Int32]) throws(Errno) -> Int32 {
        try check(unsafe sys_signalfd(signals, signals.count))
    }

    /// Keeps this process's files from `first` on out of the programs it starts: close_range.
    static func closeOnExec(from first: UInt32) throws(Errno) {
        _ = try check(sys_close_from_on_exec(first))
    }

    /// Lifts the limits on this process whose reach would end it: address space, CPU time.
    ///
    /// Best effort: without CAP_SYS_RESOURCE they stay.
    static func liftLimits() { sys_lift_limits() }

    /// The number of a signal that waits in `signalFD`.
    static func takeSignal(_ signalFD: Int32) throws(Errno) -> Int32 {
        try check(sys_take_signal(signalFD))
    }

    @discardableResult
    static func setThreadName(_ name: String) -> Errno? {
        let result = unsafe sys_set_thread_name(name)
        return result == 0 ? nil : Errno(rawValue: -result)
    }

    /// Pins the calling thread to the CPUs of a bitmap, as GET_QUEUE_AFFINITY gives it.
    static func setAffinity(_ mask: [UInt8]) throws(Errno) {
        _ = try check(unsafe sys_set_affinity(mask, mask.count))
    }

    /// Tells the kernel that this thread, and those it starts from now on, serve IO: their memory
    /// allocations must not wait for any (PR_SET_IO_FLUSHER).
    static func setIOFlusher() throws(Errno) { _ = try check(sys_set_io_flusher()) }

    /// True when this thread is marked as one that serves IO.
    static var isIOFlusher: Bool { sys_is_io_flusher() }

    /// Leaves the mount namespace for a copy.
    ///
    /// unshare(CLONE_NEWNS).
    static func unshareMounts() throws(Errno) { _ = try check(sys_unshare_mounts()) }

    /// Has the mounts of this namespace share nothing with those of others.
    ///
    /// MS_PRIVATE.
    static func makeMountsPrivate() throws(Errno) { _ = try check(sys_make_mounts_private()) }

    /// Takes a mount out of this namespace, though it is in use.
    ///
    /// MNT_DETACH.
    static func detachMount(_ path: String) throws(Errno) {
        _ = try check(unsafe sys_detach_mount(path))
    }

    /// Sets the root directory of this process, and its working directory; neither need be in its mount namespace.
    ///
    /// fchdir, chroot.
    static func changeRoot(_ root: Int32, folder: Int32) throws(Errno) {
        guard fchdir(root) == 0, unsafe chroot(".") == 0, fchdir(folder) == 0 else {
            let problem = Errno(rawValue: errno)
            // When that is not allowed, relative paths still begin where they did.
            fchdir(folder)
            throw problem
        }
    }

    /// Size of an open block device.
    ///
    /// BLKGETSIZE64.
    static func blockDeviceBytes(_ fd: Int32) throws(Errno) -> UInt64 {
        var bytes: UInt64 = 0
        _ = try check(unsafe sys_block_device_size(fd, &bytes))
        return bytes
    }

    /// Reads the partition table of an open disk.
    ///
    /// BLKRRPART.
    static func rescanPartitions(_ fd: Int32) throws(Errno) {
        _ = try check(sys_rescan_partitions(fd))
    }

    /// What has that name, to be looked at by `fstat` and opened through `/proc/self/fd`.
    static func findFile(_ path: String) throws(Errno) -> Int32 {
        try check(unsafe sys_find_file(path))
    }

    /// Locks a byte of an open file for all who want it, until that is closed.
    ///
    /// F_OFD_SETLK.
    static func lockByte(_ offset: Int64, of fd: Int32) throws(Errno) {
        _ = try check(sys_lock_byte(fd, offset))
    }

    /// Somebody else has locked exactly that byte.
    ///
    /// F_OFD_GETLK.
    static func isByteLocked(_ offset: Int64, of fd: Int32) -> Bool {
        sys_is_byte_locked(fd, offset)
    }

    /// A file in memory with these bytes, to be read from its start.
    static func memoryFile(_ bytes: [UInt8], name: String) throws(Errno) -> Int32 {
        let fd = try check(unsafe sys_memory_file(name))
        var sent = 0
        while sent < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { bytes in
                unsafe pwrite(
                    fd,
                    bytes.baseAddress.map { unsafe $0 + sent },
                    bytes.count - sent,
                    off_t(sent)
                )
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let problem = Errno(rawValue: errno)
                close(fd)
                throw problem
            }
            sent += count
        }
        return fd
    }

    private static func check(_ result: Int32) throws(Errno) -> Int32 {
        guard result >= 0 else { throw Errno(rawValue: -result) }
        return result
    }
}
