import Testing

@testable import UblkScript

/// Kernels that are known to be broken are recognised by their release.
@Suite struct KernelFlawTests {
    @Test(arguments: [
        ("6.18.4", true), ("6.18.5+deb14-amd64", true), ("6.17.0-1017-aws", true),
        ("6.17.0-1015-azure", true), ("6.12.43", false), ("6.12.57+deb13-cloud-amd64", false),
        ("6.12.72-1-lts", false),
    ])
    func `a broken kernel is told by name, and refused when it would crash`(
        release: String,
        isFatal: Bool
    ) throws {
        let flaw = try #require(KernelFlaw.of(release: release))
        #expect(flaw.isFatal == isFatal)
        #expect(flaw.text(release).contains("this kernel (\(release))"))
        #expect(flaw.text(release).contains("mended in"))
    }

    @Test(arguments: [
        "6.18.3", "6.18.6", "6.18.45", "6.12.42", "6.12.73+deb13-cloud-amd64", "6.12", "6.1.44",
        "7.3.4+deb13-cloud-amd64", "6.17.0-1016-azure", "6.17.0", "16.18.4", "", "x.y.z",
    ])
    func `all other kernels are left alone`(release: String) {
        #expect(KernelFlaw.of(release: release) == nil)
    }

    @Test(arguments: [
        ("6.12.118+deb13-cloud-amd64", true), ("6.14.11", true), ("6.1.44", true), ("5.19", true),
        ("6.15.0", false), ("6.18.6", false), ("7.0", false), ("7.3.4+deb13-cloud-amd64", false),
        ("10.1", false), ("", false), ("x.y.z", false),
    ])
    func `kernels before 6.15 crash in a second recovery`(release: String, crashes: Bool) {
        #expect(KernelFlaw.crashesInSecondRecovery(release: release) == crashes)
    }

    @Test func `the running kernel has a release`() {
        #expect(KernelFlaw.runningRelease.split(separator: ".").count > 1)
    }
}
