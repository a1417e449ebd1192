import CUring
import Glibc
import SystemPackage

/// The mounts that a server has to itself.
///
/// A mount namespace ends with its last process, which then unmounts what is mounted there. A server that were the last
/// one of a namespace in which its own disk is mounted would write a filesystem back to itself while it dies, and so
/// never die. So a server leaves the namespace that it is started in, and has only those mounts that it needs: a
/// filesystem that it kept mounted could not be checked or mounted elsewhere.
enum MountNamespace {
    /// Gives this thread, and those that it starts from now on, a namespace of their own, with the same mounts so far.
    ///
    /// Mounts and unmounts of one namespace are not seen in the other any more.
    ///
    /// - Throws: EPERM without CAP_SYS_ADMIN; then the namespace is the former one.
    static func leave() throws(Errno) { try SystemCall.leaveMountNamespace() }

    /// Takes all mounts away but those that lead to `paths`; only in a namespace of one's own.
    ///
    /// Files on them stay open, and nothing changes for other processes.
    static func keepOnly(_ paths: [String]) {
        for place in others(Mount.all(of: "self").map(\.place), than: paths).reversed() {
            // One that is locked, because it comes from a namespace of more rights, stays.
            try? SystemCall.detachMount(place)
        }
    }

    /// Those of `places` that are neither one of `paths` nor a folder on the way there.
    static func others(_ places: [String], than paths: [String]) -> [String] {
        places.filter { place in
            let folder = place.hasSuffix("/") ? place : place + "/"
            return !paths.contains { ($0 + "/").hasPrefix(folder) }
        }
    }
}
