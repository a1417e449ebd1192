import Glibc

@testable import UblkScript

/// One run of the program that was built beside these tests.
struct ProgramRun {
    let exitCode: Int32
    /// Standard output.
    let output: String
    /// Standard error.
    let errors: String

    /// Where `ublk-script` is: in the directory of the test bundle.
    ///
    /// nil when it was not built.
    static let program: String? = {
        var buffer = [CChar](repeating: 0, count: 4096)
        let length = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        let own = String(
            decoding: buffer.prefix(max(0, length)).map { UInt8(bitPattern: $0) },
            as: UTF8.self
        )
        // Under `swift test` the executable is the bundle, or a helper that was given its path.
        for path in [own] + CommandLine.arguments {
            let candidate =
                path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
                .joined(separator: "/") + "/ublk-script"
            if unsafe access(candidate, X_OK) == 0 { return candidate }
        }
        return nil
    }()

    /// Runs `ublk-script` with those words, its output into files of `directory`, where it runs too.
    ///
    /// - Parameter output: where standard output goes; nil: to ``output``.
    /// - Parameter input: the file that is standard input.
    init(
        _ words: [String],
        in directory: ScratchDirectory,
        output outputPath: String? = nil,
        input: String = "/dev/null"
    ) {
        self.init(
            argv: [Self.program ?? ""] + words,
            in: directory,
            output: outputPath,
            input: input
        )
    }

    /// Runs a line of bash the same way.
    init(shell line: String, in directory: ScratchDirectory) {
        self.init(argv: ["/bin/bash", "-c", line], in: directory, output: nil, input: "/dev/null")
    }

    private init(
        argv: [String],
        in directory: ScratchDirectory,
        output outputPath: String?,
        input: String
    ) {
        let output = outputPath ?? directory.file(".output")
        let errors = directory.file(".errors")
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        let flags = O_WRONLY | O_CREAT | O_TRUNC
        unsafe posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, 1, output, flags, 0o644)
        unsafe posix_spawn_file_actions_addopen(&actions, 2, errors, flags, 0o644)
        // Signals as in a terminal, whatever the test's thread has.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe posix_spawnattr_setsigmask(&attributes, &signals)
        unsafe sigaddset(&signals, SIGINT)
        unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
        unsafe posix_spawnattr_setflags(
            &attributes,
            Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)
        )
        let program = argv[0]
        var argv = unsafe argv.map { unsafe strdup($0) }
        defer { unsafe argv.forEach { unsafe free($0) } }
        unsafe argv.append(nil)
        var pid = pid_t()
        let result = unsafe posix_spawn(&pid, program, &actions, &attributes, argv, environ)
        precondition(result == 0, "posix_spawn: \(result)")
        var status: Int32 = 0
        while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
        // A signal counts as 128 and its number, as for a shell.
        exitCode = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
        self.output = outputPath == nil ? contents(of: output) ?? "" : ""
        self.errors = contents(of: errors) ?? ""
    }
}
