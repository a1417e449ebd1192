import ArgumentParser
import Glibc
import SystemPackage

/// `give-node NAME`: gives a node of a device to the user who added it; hidden.
///
/// udev runs it for each node that the kernel makes (`scripts/lib-install/90-ublk-script.rules`), as these are root's:
/// the node of a user's device is his alone then. Nodes of root's devices stay as they are.
struct GiveNodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "give-node",
        abstract: "Give a device's node to the user who added the device.",
        shouldDisplay: false
    )

    @Argument(help: "ublkc0, ublkb0, or a path of these in /dev.")
    var node: String

    func run() throws {
        let path = node.hasPrefix("/dev/") ? node : "/dev/" + node
        guard let id = DeviceID(parsing: path) else {
            throw ValidationError("\"\(node)\" is no node of a device, as ublkc0 or ublkb0 is")
        }
        do {
            // Held before the driver is asked: should another device get the number meanwhile, this node is gone, and
            // not that one's is given away.
            let file: Int32
            do throws(Errno) { file = try SystemCall.findFile(path) } catch {
                throw DeviceError.system(call: "open", path: path, error)
            }
            defer { close(file) }
            let info = try ControlDevice().infoByPath(of: id)
            guard let owner = info.ownerOtherThanRoot else { return }
            try DeviceNode.check(path)
            try Self.give("/proc/self/fd/\(file)", of: path, to: owner, group: info.ownerGID)
        } catch { throw Failure(error) }
    }

    private static func give(
        _ file: String,
        of path: String,
        to owner: uid_t,
        group: gid_t
    ) throws(DeviceError) {
        guard unsafe chmod(file, 0o600) == 0, unsafe chown(file, owner, group) == 0 else {
            throw .system(call: "chown", path: path, Errno(rawValue: Glibc.errno))
        }
    }
}
