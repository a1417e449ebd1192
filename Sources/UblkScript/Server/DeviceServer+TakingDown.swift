import Synchronization
import SystemPackage

/// How a device ends while its server runs: by `stop` or `del`, or by another program.
///
/// Main thread.
extension DeviceServer {
    /// Stops the device cleanly; `deletes` also gives its number back and removes its files.
    ///
    /// - Throws: when no IO makes progress for `patienceSeconds`. Then the device runs on with its faults off, as the
    ///   STOP is still under way.
    func takeDown(deletes: Bool, patienceSeconds: Int) throws(DeviceError) {
        drain("it is being stopped")
        do throws(DeviceError) {
            try lifecycle.stop(patienceSeconds: patienceSeconds, self)
        } catch {
            statusRemark = "a stop did not end within \(patienceSeconds) s without progress"
            throw .unsupported("\(error)\nUntil it ends device \(id) runs on with its faults off.")
        }
        if deletes { try lifecycle.delete(self) }
    }

    /// Stops the device unless somebody has its disk open, which the driver knows for certain (``Features/safeStop``).
    ///
    /// The script goes on being asked until the driver has stopped the device, as it may refuse to. Without an opener
    /// there is no IO that could be held.
    ///
    /// - Throws: the device runs on as it was; but when no IO makes progress for `patienceSeconds`, the command is
    ///   still under way.
    func stopIfUnused(patienceSeconds: Int) throws(DeviceError) {
        guard try lifecycle.driver.features().contains(.safeStop) else {
            throw .unsupported(
                """
                this kernel's driver cannot stop a device only when it is unused (TRY_STOP_DEV, from 7.0).
                Without --safe, stop refuses a disk that is mounted, swap, or beneath another device.
                """
            )
        }
        do throws(DeviceError) {
            try lifecycle.stopIfUnused(patienceSeconds: patienceSeconds, self)
        } catch {
            if error.errno == .resourceBusy {
                throw .unsupported("device \(id) is in use: nothing was done")
            }
            throw error
        }
        statusRemark = "it was stopped while nobody used it"
    }

    /// Turns faults off and releases all delayed and held IOs, so that STOP_DEV does not wait for them.
    ///
    /// - Parameter why: the remark that `list` shows.
    func drain(_ why: String) {
        statusRemark = why
        for context in contexts {
            context.control.armed.store(false, ordering: .relaxed)
            context.control.send(.drain)
        }
    }

    /// Ends the server's part of a device that another program has stopped.
    ///
    /// - Returns: true when the device has been deleted too; then its files are removed.
    func leave() -> Bool { lifecycle.leave(self) }
}
