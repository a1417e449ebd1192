import CUring
import SystemPackage

extension Errno {
    /// The C name, `ENODATA`; the number where there is none.
    var name: String {
        guard let name = unsafe sys_errno_name(rawValue) else { return "errno \(rawValue)" }
        return unsafe String(cString: name)
    }
}
