import SystemPackage

/// Why something about a device did not work.
///
/// Its text says what, on what, why, and what to do.
enum DeviceError: Error, Equatable {
    /// `/dev/ublk-control` does not exist.
    case noDriver
    /// It exists and may not be opened.
    case noPermission
    /// io_uring is missing or switched off.
    case noUring(Errno)
    /// The driver answered a command with an errno.
    case command(ControlCommand.Kind, DeviceID?, Errno)
    /// The driver did not answer.
    case timeout(ControlCommand.Kind, DeviceID?, seconds: Int)
    /// The driver lacks something that is needed, or gave less than was asked for.
    case unsupported(String)
    /// The driver lacks a feature that a setting needs.
    case lacking(Feature, for: String)
    /// A system call around the device failed.
    case system(call: String, path: String, Errno)

    /// The driver's errno, when it answered with one.
    var errno: Errno? {
        if case .command(_, _, let errno) = self { return errno }
        return nil
    }

    /// The device is root's or another user's; or one of a user without root that was deleted, so that its node, which
    /// decides that, is gone.
    var isOutOfReach: Bool {
        [.notPermitted, .permissionDenied, .noSuchFileOrDirectory].contains(errno)
    }
}

extension DeviceError: CustomStringConvertible {
    var description: String {
        switch self {
        case .noDriver:
            """
            /dev/ublk-control does not exist: the ublk_drv module is not loaded, or this kernel has none.
            Load it with: modprobe ublk_drv   (CONFIG_BLK_DEV_UBLK; without it use scripts/vm)
            """
        case .noPermission:
            """
            /dev/ublk-control may not be opened: this needs root. Run it with sudo; for a device of your own without \
            root, be in the group that may open it. See docs/operating.md (man ublk-script-operating)
            """
        case .noUring(let errno) where errno == .noFunction || errno == .notPermitted:
            """
            io_uring cannot be used (\(errno.name)): the kernel or a sandbox switched it off.
            See: sysctl kernel.io_uring_disabled (0 allows it), and the container's seccomp profile
            """
        case .noUring(.noMemory):
            """
            an io_uring cannot be made: the kernel has no memory for it, or its limit of locked memory is reached \
            (ENOMEM). See: ulimit -l; or ask for less depth (-d)
            """
        case .noUring(let errno):
            "an io_uring cannot be made: \(errno) (\(errno.name))"
        case .command(let kind, let device, let errno):
            Self.describe(kind, device, errno)
        case .timeout(let kind, let device, let seconds):
            """
            \(kind.rawValue) of device \(device?.description ?? "(new)") had no answer from the driver within \
            \(seconds) s: an IO its server holds, or another command on it, is in the way.
            """
        case .unsupported(let text): text
        case .lacking(let feature, let setting):
            """
            \(setting) needs UBLK_F_\(feature.name), which the ublk driver has from kernel \(feature.since) on, and \
            this one's has not. See: ublk-script features
            """
        case .system(let call, let path, let errno):
            "\(call) \(path): \(errno) (\(errno.name))"
        }
    }

    private static func describe(
        _ kind: ControlCommand.Kind,
        _ device: DeviceID?,
        _ errno: Errno
    ) -> String {
        let name = device?.description ?? "(new)"
        switch (kind, errno) {
        case (.addDevice, .fileExists):
            return "device \(name) exists already: choose another -n, or delete it first"
        case (.addDevice, .permissionDenied):
            return """
                ADD_DEV: the driver's limit of devices is reached (EACCES).
                See: cat /sys/module/ublk_drv/parameters/ublks_max
                """
        case (let kind, .permissionDenied) where kind != .setParams:
            return """
                \(kind.rawValue) of device \(name) is refused (EACCES): it is another user's, whose node \
                /dev/ublkc\(name) you may not use. He and root may
                """
        case (.addDevice, .notPermitted), (_, .notPermitted):
            return "\(kind.rawValue) of device \(name) is not permitted: this needs root"
        case (.addDevice, .noMemory):
            return """
                \(kind.rawValue): the kernel has no memory for this device's queues (ENOMEM).
                Ask for less: fewer queues (-q), less depth (-d), a smaller max_io=
                """
        case (.startRecovery, .resourceBusy):
            return "device \(name) is still open in the server that died, or in another one"
        case (.startRecovery, .invalidArgument):
            return """
                START_USER_RECOVERY of device \(name) failed (EINVAL): kernels before 6.15 cannot try again when a \
                recovery broke off while its queues came up. What is left: ublk-script del \(name)
                """
        case (_, .operationNotSupportedByDevice):
            return "there is no ublk device \(name). See: ublk-script list"
        default:
            return "\(kind.rawValue) of device \(name) failed: \(errno) (\(errno.name))"
        }
    }
}
