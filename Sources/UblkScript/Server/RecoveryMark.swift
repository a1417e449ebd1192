import Glibc

/// The mark of a recovery that has begun and not ended, where a second one may crash the kernel.
///
/// START_USER_RECOVERY of kernels before 6.15 lets go of the task of each queue, and a queue that was not fetched since
/// the last one has none: when a server died between the fetches of its first queue and of its last one, the next
/// START_USER_RECOVERY is a NULL dereference (`ublk_queue_reinit`). The driver tells nobody which queues were fetched,
/// so the mark does: it is there from before START_USER_RECOVERY until after END_USER_RECOVERY, which waits for all
/// queues. A server that dies meanwhile leaves it, and the next one is refused before it gives the command. A device
/// with one queue needs none, as the driver then refuses by itself (EINVAL), nor do later kernels: there it is neither
/// made nor looked at.
///
/// It is a symbolic link in the state directory that leads to the server's pid, as a link is made whole, and by one of
/// several processes only. It outlives its process; like the device, it need not outlive the kernel. Main thread.
struct RecoveryMark {
    private let id: DeviceID
    private let state: StateDirectory
    private let release: String

    /// nil: the device needs none.
    ///
    /// - Parameter release: the kernel's.
    init?(_ record: DeviceRecord, _ state: StateDirectory, release: String) {
        guard let queues = record.driver?.queues, queues > 1,
            KernelFlaw.crashesInSecondRecovery(release: release)
        else { return nil }
        id = DeviceID(record.id)
        self.state = state
        self.release = release
    }

    /// Makes it.
    ///
    /// - Throws: when there is one: then the device must not be recovered.
    func make() throws(DeviceError) {
        guard let pid = try state.makeMark(pid: getpid(), of: id) else { return }
        // Its own pid is that of a dead process, which this one has got again.
        let isRecovering = pid != getpid() && ServerProcess.isAlive(pid)
        throw .unsupported(isRecovering ? recovering(pid) : left)
    }

    func remove() { state.removeMark(of: id) }

    private func recovering(_ pid: Int32) -> String {
        """
        device \(id) is being recovered by process \(pid): wait for that. See: ublk-script list \(id)
        """
    }

    private var left: String {
        """
        device \(id) is not recovered: an earlier recovery broke off before all its queues were up, and then another \
        START_USER_RECOVERY can crash this kernel (\(release): a NULL dereference in ublk_queue_reinit, with several \
        queues before 6.15). What is left: ublk-script del \(id)
        """
    }
}
