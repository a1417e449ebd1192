import CUring
import Glibc
import SystemPackage

/// The mount namespace of a server, in which nothing is mounted but its root.
///
/// A mount namespace ends with its last process, which then unmounts what is mounted there. A server that were the last
/// one of a namespace in which its own disk is mounted would write a filesystem back to itself while it dies, and so
/// never die. So a server leaves the namespace that it is started in. In the other one it keeps nothing mounted: a
/// filesystem that it kept could not be checked or mounted elsewhere.
///
/// Where a path leads depends on the root directory that a process has, not on its namespace, and that stays what it
/// was: the server goes on to see what is mounted and unmounted there, like everybody else, and so do the processes
/// that it starts.
enum MountNamespace {
    /// Leaves this process's namespace; before it has threads.
    ///
    /// - Returns: nil: it has left. EPERM without CAP_SYS_ADMIN and CAP_SYS_CHROOT, EINVAL when the root directory of
    ///   this process is not that of its namespace (in a chroot, and where it has left already), or another reason; it
    ///   is where it was then, and everything is as before.
    /// - Throws: it is in neither: paths do not lead where they should any more, or the mounts are kept busy.
    @discardableResult
    static func leave() throws(Errno) -> Errno? {
        guard let own = Mount.all(of: "self") else { return .ioError }
        guard own.contains(where: { $0.place == "/" }) else { return .invalidArgument }
        let root: Int32
        let folder: Int32
        do throws(Errno) { root = try SystemCall.findFile("/") } catch { return error }
        defer { close(root) }
        do throws(Errno) { folder = try SystemCall.findFile(".") } catch { return error }
        defer { close(folder) }
        do throws(Errno) {
            // Whether that is allowed.
            try SystemCall.changeRoot(root, folder: folder)
            try SystemCall.unshareMounts()
        } catch { return error }
        try SystemCall.makeMountsPrivate()
        guard let copies = Mount.all(of: "self") else { throw .ioError }
        // Parents come first. One that is locked, as it is of somebody with more rights, stays.
        for mount in copies.reversed() where mount.place != "/" {
            try? SystemCall.detachMount(mount.place)
        }
        try SystemCall.changeRoot(root, folder: folder)
        return nil
    }
}
