import Testing

@testable import UblkScript

/// The data mode of the device tests, beside a program that only says what it was asked.
@Suite(.enabled(if: SourceTree.text(of: "Tests/Device/lib.sh") != nil, "the sources are not here"))
struct DeviceTestModeTests {
    private let scratch = ScratchDirectory()

    /// What `add_device` asks of the program and ends with.
    private func addDevice(_ mode: String?, options: String = "size=1G") -> ProgramRun {
        ProgramRun(
            shell: """
                cd \(scratch.path)
                ublk-script() { echo "asked: $*" >&2; return 1; }
                . \(SourceTree.root)/Tests/Device/lib.sh
                scratch=$PWD work=/cases
                \(mode.map { "export DATA_MODE=\($0)" } ?? "unset DATA_MODE")
                add_device faulty \(options)
                """,
            in: scratch
        )
    }

    @Test(
        arguments: [(nil, ""), ("copy", "data=copy "), ("user_copy", "data=user_copy ")]
            as [(String?, String)]
    )
    func `a device is added with the setting that asks for the mode`(
        mode: String?,
        setting: String
    ) {
        let run = addDevice(mode)
        #expect(run.errors == "asked: add /cases/faulty.lua --json \(setting)size=1G\n")
        #expect(run.exitCode == 1)
    }

    @Test func `a case that names a mode itself keeps it`() {
        let run = addDevice("copy", options: "data=user_copy")
        #expect(run.errors == "asked: add /cases/faulty.lua --json data=user_copy\n")
    }

    @Test func `the modes are those of the program`() {
        for mode in DataMode.allCases { #expect(addDevice(mode.rawValue).exitCode == 1) }
    }

    @Test func `a word that is no mode is refused before anything is looked at`() {
        let run = ProgramRun(
            shell: "DATA_MODE=fast \(SourceTree.root)/Tests/Device/run",
            in: scratch
        )
        #expect(run.exitCode == 2)
        #expect(run.errors.hasPrefix("run: DATA_MODE=fast: one of copy "), "\(run.errors)")
    }
}
