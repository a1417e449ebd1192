import Glibc
import Testing

@testable import UblkScript

/// Scripts from standard input, pipes and the command line, and how the place they came from is told.
@Suite(.enabled(if: ProgramRun.program != nil, "ublk-script is not beside the test bundle"))
struct ScriptInputTests {
    private let scratch = ScratchDirectory()

    private func run(_ words: String...) -> ProgramRun { ProgramRun(words, in: scratch) }

    private func script(_ text: String) -> String {
        scratch.write("faulty.lua", "device { size = \"1M\" }\n" + text)
    }

    @Test func `a script comes from standard input, the command line or a pipe`() {
        let path = script("rule { error = \"EIO\" }")
        let input = ProgramRun(["check", "-", "size=3M"], in: scratch, input: path)
        #expect(input.exitCode == 0 && input.output.hasPrefix("stdin: ok\n  device: 3M"))
        let inline = run(
            "check",
            "-e",
            "rule { op = \"write\", error = \"EIO\" }",
            "-e",
            "function read() end",
            "size=3M"
        )
        #expect(
            inline.output.hasPrefix("(command line): ok\n  device: 3M"),
            "\(inline.output)\(inline.errors)"
        )
        #expect(inline.output.contains("handlers: read"))
        // What a shell makes of <(...).
        let pipe = ProgramRun(
            shell:
                "\(ProgramRun.program ?? "") simulate <(cat \(path)) --ops 5 --workload <(echo read 0 4K)",
            in: scratch
        )
        #expect(pipe.exitCode == 2 && pipe.errors.contains("--workload does not go with --ops"))
        let both = ProgramRun(
            shell:
                "\(ProgramRun.program ?? "") simulate <(cat \(path)) --workload <(echo read 0 4K)",
            in: scratch
        )
        #expect(both.exitCode == 0, "\(both.errors)")
        #expect(both.output.contains("requests  1: read 1"), "\(both.output)")
    }

    @Test func `errors of such a script name where it came from`() {
        let path = scratch.write("bad.lua", "\nerror(\"no\")")
        let input = ProgramRun(["check", "-"], in: scratch, input: path)
        #expect(input.exitCode == 1 && input.errors.contains("stdin:2: no"), "\(input.errors)")
        let inline = run("check", "-e", "error(\"no\")")
        #expect(inline.errors.contains("(command line):1: no"), "\(inline.errors)")
        #expect(run("check", "-e", "x = = 1").errors.contains("(command line):1:"))
        let word = run("check", path, "-e", "device { size = \"1M\" }")
        #expect(word.exitCode == 2 && word.errors.contains("key=value is expected"))
    }

    @Test func `a fifo that nobody writes holds nothing up`() {
        let fifo = scratch.file("fifo")
        #expect(unsafe mkfifo(fifo, 0o600) == 0)
        let simulated = ["simulate", "error", "--ops", "1", "--seed", "1"]
        for words in [
            ["check", fifo], ["simulate", fifo], ["add", fifo],
            ["simulate", "error", "--workload", fifo], simulated + ["--expect", fifo],
        ] {
            let run = ProgramRun(words, in: scratch)
            #expect(run.exitCode == 1, "\(words)")
            #expect(run.errors.contains("the pipe is empty, and nobody writes to it"), "\(words)")
        }
        for words in [
            ["simulate", "error", "--workload", "/dev/zero"],
            simulated + ["--expect", "/dev/zero"],
            ["simulate", "error", "--workload", scratch.path],
        ] {
            let run = ProgramRun(words, in: scratch)
            #expect(run.exitCode == 1, "\(words)")
            #expect(run.errors.contains("a regular file or a pipe of at most"), "\(run.errors)")
        }
    }

    @Test func `a pipe that nothing comes from for a while is waited for, and that is said`() {
        let path = script("rule { error = \"EIO\" }")
        let program = ProgramRun.program ?? ""
        let late = ProgramRun(
            shell: "\(program) check <(sleep 3; cat \(path); sleep 3)",
            in: scratch
        )
        #expect(late.exitCode == 0 && late.output.contains(": ok"), "\(late.errors)")
        let lines = late.errors.split(separator: "\n").count { $0.contains("waiting for /dev/fd") }
        #expect(lines == 1, "\(late.errors)")
        #expect(late.errors.contains("nothing has come for 2 s"))
    }

    @Test(arguments: [
        "check <(exec sleep 60)", "simulate error --workload <(exec sleep 60)",
        "check - < <(exec sleep 60)", "simulate error --seed 1 --expect - < <(exec sleep 60)",
    ])
    func `Ctrl-C ends the wait for a pipe`(words: String) {
        // Once it says that it waits. A shell has its children in the background ignore SIGINT, env undoes that.
        let run = ProgramRun(
            shell: """
                timeout -k 1 60 env --default-signal=INT \(ProgramRun.program ?? "") \(words) 2>said &
                for _ in {1..400}; do ! grep -q 'waiting for ' said || break; sleep 0.1; done
                pkill -INT -P $!
                wait $!
                status=$?
                cat said >&2
                rm said
                exit $status
                """,
            in: scratch
        )
        #expect(run.exitCode == 130, "\(run.output)\(run.errors)")
        #expect(run.errors.contains("waiting for "), "\(run.errors)")
    }

    @Test func `the folder of a script stays in its errors`() {
        unsafe mkdir(scratch.file("sub"), 0o700)
        let path = scratch.file("sub/a.lua")
        defer { unsafe unlink(path) }
        _ = scratch.write("sub/a.lua", "\nlocal x = = 1")
        #expect(run("check", path).errors.contains("ublk-script: \(path):2: "))
        _ = scratch.write("sub/a.lua", "\nrule { error = \"EPERM\" }")
        #expect(run("check", path).errors.contains("ublk-script: \(path):2: error = "))
        let deep = String(repeating: "folder/", count: 12)
        let name = ScriptSource(path: deep + "a.lua", text: "").name
        #expect(name.utf8.count <= 56 && name.hasPrefix(".../folder/") && name.hasSuffix("/a.lua"))
    }

    @Test func `the ledger names a script without its folder`() {
        let path = script("rule { nth = 1, error = \"EIO\" }")
        let ledger = run("simulate", path, "--ops", "20", "--seed", "1", "--ledger").output
        #expect(ledger.contains("  faulty.lua:2: fail(\"EIO\")"), "\(ledger)")
    }

    @Test func `the version, and what the shell completes`() {
        #expect(run("--version").output == "ublk-script \(UblkScript.version)\n")
        _ = scratch.write("deliver.lua", "")
        #expect(ScriptCompletion.words("de").contains("delay"))
        #expect(
            ScriptCompletion.words(scratch.path + "/de") == [scratch.file("deliver.lua")]
        )
        let here = run(
            "---completion",
            "check",
            "--",
            "positional@0",
            "2",
            "0",
            "ublk-script",
            "check",
            "de"
        )
        #expect(
            here.output.contains("delay"),
            "\(here.errors)"
        )
        for shell in ["bash", "zsh", "fish"] {
            #expect(run("--generate-completion-script", shell).exitCode == 0)
        }
    }

    @Test func `a script is one word of a request, whatever its bytes`() throws {
        let all = ScriptSource(
            path: "a.lua",
            text: Array(0...255) + Array("100 % \u{e9}%41".utf8),
            origin: .text,
            recordedPath: "/x/a.lua"
        )
        #expect(!all.textAsWord.contains("\0"))
        let back = try #require(ScriptSource(words: all.asWords))
        #expect(back.text == all.text && back.path == "a.lua" && back.origin == .text)
        #expect(back.recordedPath == "/x/a.lua")
        for word in ["%", "%4", "%xx"] { #expect(ScriptSource.text(ofWord: word) == nil) }
    }

    @Test func `simulate that is interrupted prints what there is so far`() {
        let path = script(
            "local n = 0 function read() n = n + 1 if n == 1 then log(\"begun\") end end"
        )
        // A shell's background process ignores SIGINT, for which SIGTERM stands here.
        let run = ProgramRun(
            shell: """
                cd \(scratch.path)
                \(ProgramRun.program ?? "") simulate \(path) --ops 100000000 2>said &
                until grep -q begun said || ! kill -0 $!; do sleep 0.1; done
                kill $!
                wait $!
                status=$?
                cat said >&2
                rm said
                exit $status
                """,
            in: scratch
        )
        #expect(run.exitCode == 1, "\(run.errors)")
        #expect(run.output.contains("early: interrupted; "), "\(run.output)")
        #expect(run.errors.contains("interrupted: this is what there is so far"))
    }
}
