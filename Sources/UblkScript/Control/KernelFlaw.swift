import Glibc

/// A fault of some kernels that has to be known before a command is given.
///
/// Found by the kernel's release, as the driver itself tells nothing. Source: the kernel's change logs, and reports of
/// users of other ublk programs.
struct KernelFlaw: Equatable, Sendable {
    /// The beginning of the release: all of `6.18`, or one build such as `6.17.0-1017-aws`.
    private let kernel: String
    /// The third numbers of the releases that have it; nil: `kernel` says all.
    private let builds: ClosedRange<Int>?
    /// What happens, and since when it does not.
    private let fault: String
    /// No device can be made.
    let isFatal: Bool

    private init(_ kernel: String, _ builds: ClosedRange<Int>?, _ fault: String, isFatal: Bool) {
        self.kernel = kernel
        self.builds = builds
        self.fault = fault
        self.isFatal = isFatal
    }

    private static let nullDereference =
        "ADD_DEV crashes it (a NULL dereference in ublk_drv, mended in 6.18.6)"

    private static let all = [
        KernelFlaw(
            "6.12",
            43...72,
            """
            it can hang for good when a device starts and its partition table is read (CVE-2025-68823, mended in \
            6.12.73); partitions=false avoids that
            """,
            isFatal: false
        ),
        KernelFlaw("6.18", 4...5, nullDereference, isFatal: true),
        KernelFlaw("6.17.0-1015-azure", nil, nullDereference, isFatal: true),
        KernelFlaw("6.17.0-1018-azure", nil, nullDereference, isFatal: true),
        KernelFlaw("6.17.0-1017-aws", nil, nullDereference, isFatal: true),
    ]

    /// The flaw of a release, as `uname -r` prints it; nil: none is known.
    static func of(release: String) -> KernelFlaw? { all.first { $0.applies(to: release) } }

    /// START_USER_RECOVERY crashes it for a device of which only some queues were fetched since the last one: a NULL
    /// dereference in `ublk_queue_reinit` before 6.15, seen on 6.12.118.
    static func crashesInSecondRecovery(release: String) -> Bool {
        let numbers = numbers(of: release)
        guard numbers.count > 1 else { return false }
        return (numbers[0], numbers[1]) < (6, 15)
    }

    /// The release of the running kernel.
    static var runningRelease: String {
        var names = utsname()
        guard unsafe uname(&names) == 0 else { return "" }
        return unsafe withUnsafeBytes(of: names.release) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    private func applies(to release: String) -> Bool {
        guard let builds else { return release.hasPrefix(kernel) }
        let numbers = Self.numbers(of: release)
        guard numbers.count > 2 else { return false }
        return "\(numbers[0]).\(numbers[1])" == kernel && builds.contains(numbers[2])
    }

    /// The numbers that a release begins with.
    private static func numbers(of release: String) -> [Int] {
        release.prefix { $0.isNumber || $0 == "." }.split(separator: ".").compactMap { Int($0) }
    }

    func text(_ release: String) -> String {
        isFatal
            ? "this kernel (\(release)) cannot make a ublk device: \(fault). Use another kernel"
            : "this kernel (\(release)) has a fault: \(fault)"
    }
}
