import Glibc
import Testing

@testable import UblkScript

/// Each system call of a command that loads a script fails, once: it goes on without, or says why it cannot.
///
/// By the injector of `Tests/Device/test-injection.sh`, which does this to a server.
struct InjectionTests {
    private let scratch = ScratchDirectory()
    /// What a process cannot be without, by design of Swift's runtime and of the C library.
    private static let needed = ["brk", "execve", "getrandom", "prlimit64"]

    private var inject: String { scratch.file("inject") }
    private var program: String { ProgramRun.program ?? "" }

    /// Runs `check` under the injector; what that wrote.
    private func check(_ options: String, _ call: String = "") -> (run: ProgramRun, trace: String) {
        let run = ProgramRun(
            shell: """
                cd \(scratch.path); rm -f trace
                timeout 20 \(inject) -o trace \(options) \(call) \(program) check faulty.lua
                status=$?
                for i in {1..100}; do grep -q '^end' trace && break; sleep 0.01; done
                exit $status
                """,
            in: scratch
        )
        return (run, ProgramRun(shell: "cat \(scratch.file("trace"))", in: scratch).output)
    }

    @Test(.enabled(if: TestHost.has("cc"), "there is no C compiler"))
    func `whichever system call of check fails, it works or says why not`() throws {
        let source = "\(SourceTree.root)/Tests/Injection/inject.c"
        let build = ProgramRun(shell: "cc -O1 -Wall -Wextra -o \(inject) \(source)", in: scratch)
        #expect(build.exitCode == 0 && build.errors.isEmpty, "\(build.errors)")
        scratch.write("faulty.lua", "device { size = '64M' }\nfunction read(io) end\n")
        let listing = check("-l")
        try #require(listing.run.exitCode == 0, "no tracing here? \(listing.run.errors)")
        var tried = 0
        for line in listing.trace.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 3, let count = Int(words[0]), !Self.needed.contains(words[2])
            else { continue }
            for number in 1...count {
                for errno in ["EINTR", "ENOMEM"] {
                    let options = "-t \(words[1]) -n \(number) -e \(errno)"
                    let (run, trace) = check(options, words[2])
                    tried += 1
                    #expect(
                        [0, 1].contains(run.exitCode)
                            && (run.exitCode == 0 || !run.errors.isEmpty)
                            && !trace.contains("crash"),
                        "\(options) \(words[2]): \(run.exitCode) \(run.errors) \(trace)"
                    )
                }
            }
        }
        #expect(tried > 50)
    }
}
