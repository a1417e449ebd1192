import Testing

/// The data mode of the device tests, beside a program that only says what it was asked.
@Suite(.enabled(if: SourceTree.text(of: "Tests/Device/lib.sh") != nil, "the sources are not here"))
struct DeviceTestModeTests {
    private let scratch = ScratchDirectory()

    /// What `add_device` asks of the program and ends with, when `modes` are the ones that it offers.
    private func addDevice(_ mode: String?, modes: String? = nil) -> ProgramRun {
        ProgramRun(
            shell: """
                cd \(scratch.path)
                ublk-script() { echo "asked: $*" >&2; return 1; }
                . \(SourceTree.root)/Tests/Device/lib.sh
                scratch=$PWD work=/cases
                \(mode.map { "export DATA_MODE=\($0)" } ?? "unset DATA_MODE")
                \(modes.map { "data_modes=$'\($0)'" } ?? "")
                add_device faulty size=1G
                """,
            in: scratch
        )
    }

    @Test(arguments: [nil, "copy"])
    func `a device is added as ever in the mode that all have`(mode: String?) {
        let run = addDevice(mode)
        #expect(run.errors == "asked: add /cases/faulty.lua --json size=1G\n")
        #expect(run.exitCode == 1)
    }

    @Test func `a device of another mode is added with the settings that ask for it`() {
        let run = addDevice("user-copy", modes: "copy\\nuser-copy data=user zero=no")
        #expect(
            run.errors == "asked: add /cases/faulty.lua --json data=user zero=no size=1G\n"
        )
    }

    @Test func `a case whose mode the program does not offer is skipped with the reason`() {
        let run = addDevice("user-copy")
        #expect(run.exitCode == 75 && run.errors.isEmpty)
        #expect(
            contents(of: scratch.file("why"))
                == "ublk-script does not offer the data mode user-copy\n"
        )
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
