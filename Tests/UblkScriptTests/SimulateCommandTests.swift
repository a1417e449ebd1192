import Testing

@testable import UblkScript

/// `simulate` from outside: what it runs, prints and refuses, and how it exits.
@Suite(.enabled(if: ProgramRun.program != nil, "ublk-script is not beside the test bundle"))
struct SimulateCommandTests {
    private let scratch = ScratchDirectory()

    private func run(_ words: String...) -> ProgramRun { ProgramRun(words, in: scratch) }

    /// A script that declares one megabyte of memory, and then `text`.
    private func script(_ text: String = "") -> String {
        scratch.write("faulty.lua", "device { size = \"1M\" }\n" + text)
    }

    // MARK: --test

    @Test func `test prints a line for each test and a sum, and fails when one has`() {
        let good = "test(\"good\", function(disk) expect(disk:read(0, 512).errno, nil) end)\n"
        let bad = "test(\"bad\", function(disk) expect(disk:read(0, 512).errno, \"EIO\") end)\n"
        let passing = run("simulate", script(good + good), "--test")
        #expect(passing.exitCode == 0 && passing.errors.isEmpty)
        #expect(passing.output == "ok - good\nok - good\n2 passed, 0 failed\n")
        let path = script(bad + good)
        let failing = run("simulate", path, "--test", "--seed", "7")
        #expect(failing.exitCode == 1)
        #expect(
            failing.output == """
                FAIL - bad: \(path):2: expected "EIO", got nil
                ok - good
                1 passed, 1 failed

                """
        )
        #expect(failing.errors == "ublk-script: 1 of 2 tests failed (seed=7)\n")
        let json = run("simulate", script(good), "--test", "--json", "--seed", "7")
        #expect(json.exitCode == 0)
        #expect(json.output.hasPrefix("{\"failed\":0,\"passed\":1,\"script\":\""))
    }

    @Test
    func `the log of a test is the device's and the test's, and what is loaded is heard once`() {
        let text = """
            print("loaded")
            test("t", function(disk) print("tested", disk:read(0, 512).errno) end)
            function read() print("asked") end
            """
        let run = run("simulate", script(text), "--test")
        #expect(run.exitCode == 0 && run.errors == "loaded\nasked\ntested\tnil\n", "\(run.errors)")
    }

    @Test func `a script without a test fails, and says how one looks`() {
        let run = run("simulate", script(), "--test")
        #expect(run.exitCode == 1 && run.output == "0 passed, 0 failed\n")
        #expect(
            run.errors.contains("faulty.lua has no test: test(\"name\", function(disk) ... end)")
        )
    }

    @Test func `what a test says itself is not given beside it`() {
        let path = script()
        for words in [
            ["--ops", "1"], ["--rw", "read"], ["--bs", "4K"], ["--bench"], ["--ledger"],
            ["--rate", "1"], ["--time", "1s"], ["--workload", "w.txt"], ["--expect", "e.txt"],
        ] {
            let run = ProgramRun(["simulate", path, "--test"] + words, in: scratch)
            #expect(run.exitCode == 2, "\(words)")
            #expect(run.errors.contains("--test does not go with \(words[0])"), "\(run.errors)")
        }
    }

    // MARK: --workload

    @Test func `a workload comes from a file, which is refused before anything runs`() {
        let path = script("rule { op = \"write\", error = \"EIO\" }")
        scratch.write("w.txt", "write 0 4K\nread 0 4K\n@10s write 4K 4K\n")
        let good = run("simulate", path, "--workload", scratch.file("w.txt"), "--seed", "1")
        #expect(good.exitCode == 0, "\(good.errors)")
        #expect(good.output.contains("  requests  3: read 1, write 2\n"))
        #expect(good.output.contains("  errors    EIO 2\n"))
        #expect(good.output.contains("  time      10.0 s virtual"))
        scratch.write("w.txt", "write 0 4K\nread 2M 4K\n")
        let bad = run("simulate", path, "--workload", scratch.file("w.txt"))
        #expect(bad.exitCode == 1 && bad.output.isEmpty)
        #expect(
            bad.errors.contains(
                "w.txt:2: read 2097152 4096: it ends past the device's 1048576 bytes"
            )
        )
        let missing = run("simulate", path, "--workload", scratch.file("none.txt"))
        #expect(missing.exitCode == 1)
        #expect(missing.errors.hasSuffix("/none.txt: No such file or directory\n"))
        for words in [
            ["--ops", "1"], ["--rw", "read"], ["--bs", "4K"], ["--rate", "1"], ["--bench"],
        ] {
            let run = ProgramRun(
                ["simulate", path, "--workload", scratch.file("w.txt")] + words,
                in: scratch
            )
            #expect(run.exitCode == 2, "\(words)")
            #expect(run.errors.contains("--workload does not go with \(words[0])"), "\(run.errors)")
        }
    }

    // MARK: What is no success

    @Test func `a script that raised makes the run a failure unless that is allowed`() {
        let path = script("function read() error(\"oh\") end")
        let words = ["simulate", path, "--ops", "50", "--seed", "1"]
        let run = ProgramRun(words, in: scratch)
        #expect(run.exitCode == 1)
        #expect(
            run.errors.contains("faulty.lua:2: oh") && run.errors.contains("--allow script-errors")
        )
        #expect(run.output.contains("script_errors"))
        #expect(ProgramRun(words + ["--allow", "script-errors"], in: scratch).exitCode == 0)
        #expect(ProgramRun(words + ["--allow", "data"], in: scratch).exitCode == 1)
        #expect(ProgramRun(words + ["--allow", "data,script-errors"], in: scratch).exitCode == 0)
        let wrong = ProgramRun(words + ["--allow", "datas"], in: scratch)
        #expect(wrong.exitCode == 2 && wrong.errors.contains("script-errors, data"))
    }

    @Test func `what cannot be read back at the end is told, and so is that nothing was`() {
        let raising = run(
            "simulate",
            script("function read() error(\"oh\") end"),
            "--ops",
            "50",
            "--allow",
            "script-errors"
        )
        let words = raising.output.split { $0 == " " || $0 == "\n" }.joined(separator: " ")
        #expect(raising.exitCode == 0, "\(raising.errors)")
        #expect(
            words.contains("at end 0 blocks written and read back, all as last acknowledged;")
                && words.contains(" more could not be read, as the script raised"),
            "\(raising.output)"
        )
        for held in ["rule { op = \"read\", hang = true }", "function read() return hang() end"] {
            let run = run("simulate", script(held), "--ops", "50")
            #expect(
                run.output.contains("  at end    what was written was not read back\n"),
                "\(run.output)"
            )
        }
    }

    @Test func `a lost write that nobody reads again shows at the end`() {
        let path = script("rule { op = \"write\", flags = \"fua\", drop = true, name = \"lost\" }")
        scratch.write("w.txt", "write 0 4K fua\nwrite 4K 4K\n")
        let words = [
            "simulate", path, "cache=volatile", "fua=true", "--workload", scratch.file("w.txt"),
        ]
        let run = ProgramRun(words, in: scratch)
        #expect(run.exitCode == 1)
        #expect(
            run.output.replacing("\n            ", with: " ").contains(
                "  at end    16 blocks written and read back; 8 differ from the last acknowledged write: 8 zeroes"
            ),
            "\(run.output)"
        )
        #expect(run.output.contains("rule lost of line 2: acted 1 times"))
        #expect(
            run.errors.contains("8 blocks differ from what was acknowledged last; --allow data")
        )
        #expect(ProgramRun(words + ["--allow", "data"], in: scratch).exitCode == 0)
    }

    @Test func `what a handler keeps itself is read back from it`() {
        let path = script(
            """
            local kept = {}
            function write(io, offset, length) kept[offset] = io:data() return done() end
            function read(io, offset, length) return kept[offset] and done(kept[offset]) end
            """
        )
        let words = ["--ops", "300", "--rw", "randrw", "--bs", "512"]
        let run = ProgramRun(["simulate", path] + words, in: scratch)
        #expect(run.output.contains("blocks written and read back"), "\(run.output)\(run.errors)")
    }

    @Test func `a rate that delays nothing has not acted, and neither has a delay of zero`() {
        let path = script(
            """
            rule { name = "wide", rate = "1000G" }
            rule { name = "none", delay = dist.const(0) }
            """
        )
        let run = run("simulate", path, "--ops", "100")
        #expect(run.output.contains("let everything pass"), "\(run.output)")
        #expect(run.output.contains("rule wide of line 2: acted 0 times"))
        #expect(run.output.contains("rule none of line 3: acted 0 times"))
        let marks = script("rule { mark = \"m\" }")
        #expect(!self.run("simulate", marks, "--ops", "9").output.contains("let everything pass"))
    }

    @Test func `time is how long requests are made`() {
        let run = run("simulate", script("rule { delay = \"1s\" }"), "--time", "10s", "-d", "1")
        #expect(run.output.contains("  requests  10: "), "\(run.output)")
        #expect(run.output.contains("  time      10.0 s virtual"), "\(run.output)")
        #expect(self.run("simulate", script(), "--time", "1s", "--ops", "1").exitCode == 2)
    }

    // MARK: --expect

    private static let faults = "rule { op = \"read\", p = 0.1, error = \"EIO\" }"

    @Test(arguments: [["--ledger"], [], ["--ledger", "--json"]])
    func `expect compares what would be printed with a file`(options: [String]) throws {
        let words = ["simulate", script(Self.faults), "--ops", "300"] + options
        let first = ProgramRun(words + ["--seed", "7"], in: scratch)
        let file = scratch.write("e.txt", first.output)
        let count = first.output.split(separator: "\n").count
        #expect(count > 5)
        let same = ProgramRun(words + ["--seed", "7", "--expect", file], in: scratch)
        #expect(same.exitCode == 0 && same.errors.isEmpty, "\(same.errors)")
        #expect(same.output == "\(file): as expected, \(count) lines\n")
        let other = ProgramRun(words + ["--seed", "8", "--expect", file], in: scratch)
        #expect(other.exitCode == 1 && other.output.isEmpty)
        let line = try #require(first.output.split(separator: "\n").first)
        #expect(
            other.errors.hasPrefix(
                "ublk-script: \(file):1: the run differs\n  expected: \(line)\n  got:      "
            )
        )
    }

    @Test func `an expectation needs its file and a seed, and is never written`() {
        let path = script(Self.faults)
        let missing = run("simulate", path, "--seed", "7", "--expect", scratch.file("none.txt"))
        #expect(missing.exitCode == 1 && missing.output.isEmpty)
        #expect(
            missing.errors.contains(
                "/none.txt: No such file or directory; the same command without --expect makes it: ublk-script simulate SCRIPT --seed N --ledger > "
            )
        )
        #expect(!DirectoryListing.names(scratch.path).contains("none.txt"))
        let file = scratch.write("e.txt", "")
        let random = run("simulate", path, "--expect", file)
        #expect(random.exitCode == 1)
        #expect(
            random.errors.contains(
                "a run that can be repeated is expected: --seed N, or seed in device{}"
            )
        )
        let seeded = scratch.write("s.lua", "device { size = \"1M\", seed = 3 }")
        #expect(
            run("simulate", seeded, "--expect", file).errors.contains(
                "e.txt:1: the run differs\n  expected: (the end of the file)\n"
            )
        )
        let bench = run("simulate", path, "--bench", "--expect", file)
        #expect(bench.exitCode == 2 && bench.errors.contains("--expect does not go with --bench"))
    }

    @Test(
        arguments: [
            ("a\nb\n", ["a", "b"], nil), ("a\nb", ["a", "b"], nil),
            ("a\r\nb\r\n", ["a", "b"], nil),
            ("", [], nil),
            ("a\nc\n", ["a", "b"], "f:2: the run differs\n  expected: c\n  got:      b"),
            (
                "a\n", ["a", "b"],
                "f:2: the run differs\n  expected: (the end of the file)\n  got:      b"
            ),
            ("a\nb\n", ["a"], "f:2: the run differs\n  expected: b\n  got:      (nothing more)"),
            ("a\n\n", ["a"], "f:2: the run differs\n  expected: \n  got:      (nothing more)"),
        ] as [(String, [String], String?)]
    )
    func `the first difference is shown with its line`(
        text: String,
        printed: [String],
        difference: String?
    ) {
        #expect(ExpectedOutput(path: "f", text: text).difference(printed) == difference)
    }
}
