import ArgumentParser
import Testing

@testable import UblkScript

/// What the program does on a terminal, and nowhere else: colours, progress, lines that fit, Ctrl-C.
@Suite(.enabled(if: ProgramRun.program != nil, "ublk-script is not beside the test bundle"))
struct TerminalTests {
    private let scratch = ScratchDirectory()

    private func run(
        _ words: [String],
        environment: [String: String] = [:],
        filed: [Int32] = [],
        typing: TerminalRun.Typing? = nil
    ) -> TerminalRun {
        TerminalRun(words, in: scratch, environment: environment, filed: filed, typing: typing)
    }

    private func script(_ text: String) -> String {
        scratch.write("faulty.lua", "device { size = \"1M\" }\n" + text)
    }

    /// Has one test that passes, and one that does not.
    private var tested: String {
        script("test(\"good\", function() end)\ntest(\"bad\", function() error(\"no\") end)")
    }

    // MARK: Colours

    @Test func `colours are on a terminal, and nowhere else`() {
        let words = ["simulate", tested, "--test"]
        let both = run(words)
        #expect(both.exitCode == 1)
        #expect(both.shown.contains("\u{1b}[32mok\u{1b}[0m - good"), "\(both.shown)")
        #expect(both.shown.contains("\u{1b}[31mFAIL\u{1b}[0m - bad"), "\(both.shown)")
        #expect(both.shown.contains("\u{1b}[31mublk-script:\u{1b}[0m 1 of 2"), "\(both.shown)")
        // Each stream for itself.
        let output = run(words, filed: [1])
        #expect(output.files[1]?.contains("ok - good\n") == true, "\(output.files)")
        #expect(output.shown.contains("\u{1b}[31mublk-script:\u{1b}[0m 1 of 2"))
        let errors = run(words, filed: [2])
        #expect(errors.files[2]?.hasPrefix("ublk-script: 1 of 2") == true, "\(errors.files)")
        #expect(errors.shown.contains("\u{1b}[32mok\u{1b}[0m - good"))
    }

    @Test(arguments: [["NO_COLOR": "1"], ["TERM": "dumb"]])
    func `NO_COLOR and a terminal without colours have none`(environment: [String: String]) {
        let run = run(["simulate", tested, "--test"], environment: environment)
        #expect(run.shown.contains("ok - good\n") && run.shown.contains("ublk-script: 1 of 2"))
        #expect(!run.shown.contains("\u{1b}"), "\(run.shown)")
    }

    @Test func `an empty NO_COLOR is none`() {
        let run = run(["simulate", tested, "--test"], environment: ["NO_COLOR": ""])
        #expect(run.shown.contains("\u{1b}[32mok"))
    }

    // MARK: Control characters

    @Test func `nothing that a script or a file says drives the terminal`() {
        let loud = script(
            """
            params { text = "\\27[35mp" }
            function ctl() return "\\27[35mc\\n\\27]0;title\\7" end
            function read() log("\\27[35ml\\u{9b}35m") error("\\27[35me") end
            """
        )
        let workload = scratch.write("workload", "ctl say\nread 0 4K\n")
        let other = scratch.write("\u{1b}[35mname.lua", "device { size = \"1M\" }")
        let runs: [([String], String)] = [
            (["simulate", loud, "--workload", workload], "ctl say: "),
            (["simulate", loud, "--workload", workload, "--ledger"], "ctl say: "),
            (["check", loud], "\\x1b[35mp"),
            (["check", loud, "text=\u{1b}[35m"], "\\x1b[35m"),
            (["check", loud, "\u{1b}[35m=1"], "\\x1b[35m"),
            (["check", loud, "--\u{1b}[35m"], "\\x1b[35m"),
            (["check", other], "\\x1b[35mname.lua: ok"),
            (["simulate", other, "--ops", "5"], "\\x1b[35mname.lua: seed"),
            (["check", "-e", "error(\"\\27[35m\")"], "\\x1b[35m"),
            (["faults", "\u{1b}[35m"], "\\x1b[35m"),
            (["\u{1b}[35m"], "\\x1b[35m"),
            (["list", "\u{1b}[35m"], "\\x1b[35m"),
            (["ctl", "/dev/\u{1b}[35m", "x"], "\\x1b[35m"),
        ]
        for (words, part) in runs {
            let run = run(words)
            var text = run.shown
            for sequence in Style.sequences { text = text.replacing(sequence, with: "") }
            let raw = text.unicodeScalars.filter {
                // The progress of a slow run is ours.
                $0.properties.generalCategory == .control && $0 != "\n" && $0 != "\r"
            }
            #expect(raw.isEmpty, "\(words): \(run.shown.debugDescription)")
            #expect(text.contains(part), "\(words): \(run.shown.debugDescription)")
        }
    }

    // MARK: Lines

    @Test func `what a person reads on a terminal fits 80 columns`() {
        let long = scratch.write(
            "long.lua",
            """
            device { size = "1M" }
            params { a_parameter_with_a_long_name = 0.5, another_long_name = "text", third_one = 3 }
            rule { name = "a-rule", op = "read", range = { 0, 4096 }, p = 0.25, every = 3, error = "EIO",
              delay = "100ms", after = "1s", log = true }
            rule { op = "read", queue = 7, error = "EIO" }
            function raed() end
            function read() error("a text of a script that has many words, which nobody would read "
              .. "if they were all in one line") end
            test("a name of a test that has many words", function()
              error("and a reason that has even more of them, so that no line can hold both") end)
            """
        )
        let workload = scratch.write(
            "job.fio",
            "[a]\nrw=read\nsize=64k\nioengine=libaio\ndirect=1\ngroup_reporting\n"
        )
        var runs = [
            ["--help"], ["check", "long.lua"], ["simulate", "long.lua", "--ops", "10"],
            ["simulate", "long.lua", "--ops", "10", "--ledger"],
            ["simulate", "long.lua", "--test"], ["simulate", "long.lua", "--workload", workload],
            ["faults"], ["faults", "nothing"], ["list"], ["ledger", "--action", "x"], ["simulate"],
            ["simulate", "error", "--rw", "x"], ["check", "long.lua", "colour=1"], ["add"],
        ]
        runs += UblkScript.configuration.subcommands.map {
            [$0.configuration.commandName ?? "", "--help"]
        }
        for (index, words) in runs.enumerated() {
            let words = words.map { $0 == "long.lua" ? long : $0 }
            // Whatever somebody says of the terminal's width.
            let lines = run(words, environment: index % 2 == 0 ? [:] : ["COLUMNS": "200"]).lines
            let wide = lines.filter { line in
                line.count > 80 && line.drop { $0 == " " }.contains(" ")
            }
            #expect(wide.isEmpty, "\(words): \(wide.joined(separator: "\n"))")
        }
    }

    // MARK: Progress

    private static let many = "100000000"

    @Test func `how far a long run is shows on a terminal, and goes when it is over`() {
        let path = script("")
        // Nobody waits for the end.
        let run = run(
            ["simulate", path, "--ops", Self.many],
            typing: .init(after: " of \(Self.many) requests", keys: "\u{3}")
        )
        #expect(run.exitCode == 1)
        #expect(run.shown.contains("\r0 %: "), "\(run.shown)")
        let rest = run.shown.split(separator: "\r").last.map(String.init) ?? ""
        #expect(rest.hasPrefix("\(path): seed "), "\(rest)")
        #expect(rest.contains("early: interrupted; "))
        #expect(rest.contains("interrupted: this is what there is so far"))
    }

    private static let endless = """
        every("1ms", function() end)
        test("first", function() end)
        test("second", function(disk) disk:wait("1000h") end)
        """

    @Test func `tests that are interrupted have told what is over`() {
        let path = script(Self.endless)
        let run = run(
            ["simulate", path, "--test"],
            typing: .init(after: "50 %: 1 of 2 tests", keys: "\u{3}")
        )
        #expect(run.exitCode == 1)
        #expect(run.shown.contains("- first\n") && !run.shown.contains("- second"), "\(run.shown)")
        let rest = run.shown.split(separator: "\r").last.map(String.init) ?? ""
        #expect(rest.hasPrefix("1 passed, 0 failed\n"), "\(rest)")
        #expect(rest.contains("interrupted: 1 of 2 tests were over"))
    }

    @Test func `there is no progress where standard error is no terminal`() {
        let path = script(
            "local n = 0 function read() n = n + 1 if n == 1 then log(\"begun\") end end"
        )
        // The time is what is tested: twice that after which it would show.
        let run = ProgramRun(
            shell: """
                \(ProgramRun.program ?? "") simulate \(path) --ops \(Self.many) 2>\(scratch.file("said")) &
                until grep -q begun \(scratch.file("said")) || ! kill -0 $!; do sleep 0.1; done
                sleep 0.8
                kill $!
                wait $!
                cat \(scratch.file("said")) >&2
                """,
            in: scratch
        )
        #expect(run.output.contains("early: interrupted; "), "\(run.output)\(run.errors)")
        #expect(!run.errors.contains("%") && !run.errors.contains("\r"), "\(run.errors)")
    }
}
