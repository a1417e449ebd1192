import Glibc
import SystemPackage

/// What may be in the way of a device that comes up.
extension DeviceServer {
    /// The kernel makes the nodes before START_DEV ends; where a program does it, it may be late.
    ///
    /// What is there in their place stays there, and everything written to it would seem to work.
    func waitForNodes() throws(DeviceError) {
        for round in 0... {
            do throws(DeviceNode.Problem) { return try DeviceNode.check(id) } catch {
                if case .missing = error, round < 300 {
                    usleep(10_000)
                    continue
                }
                throw .unsupported("device \(id): \(error)")
            }
        }
    }

    /// The number of a deleted device may stay taken.
    func explained(_ error: DeviceError) -> DeviceError {
        guard error.errno == .fileExists, let id = request.id, let known = try? driver.info(of: id),
            DeviceUsers.isDeleted(id, known)
        else { return error }
        let story = DeviceUsers(of: id).storyOfDeleted
        return .unsupported("device \(id) is \(story): wait for that, or choose another -n")
    }

    static func noThread(_ whose: String, _ errno: Errno) -> DeviceError {
        .unsupported(
            """
            \(whose) cannot have a thread (\(errno.name)): memory or the number of processes is limited. \
            See: ulimit -v, ulimit -u
            """
        )
    }
}
