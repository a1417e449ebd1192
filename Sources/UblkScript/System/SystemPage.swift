import Glibc

/// The machine's memory page, which the driver's limits are multiples of.
enum SystemPage {
    static let bytes = Int(sysconf(Int32(_SC_PAGESIZE)))

    /// `bytes` rounded up to whole pages.
    static func roundUp(_ bytes: Int) -> Int { (bytes + Self.bytes - 1) / Self.bytes * Self.bytes }
}
