import Testing

/// `scripts/test` itself, in a project whose programs only say what they were asked.
@Suite(.enabled(if: SourceTree.text(of: "scripts/test") != nil, "the sources are not here"))
struct TestRunnerTests {
    private let scratch = ScratchDirectory()

    /// Programs in place of the project's; `asked` gets a line from each call.
    private static let project = """
        set -e
        mkdir -p p/scripts/lib-vm p/Tests/VM p/Tests/Device p/.ci p/bin
        cp "$runner" p/scripts/test
        cat >p/program <<'END'
        #!/bin/bash
        echo "${0##*/} $*" >>"$ASKED"
        case "${0##*/} $*" in
          "swift test"*)
            file=${@: -1}
            { echo "<testsuite>"; echo '<testcase classname="S" name="t" time="3.5"></testcase>'; } \\
              >"${file%.xml}-swift-testing.xml"
            echo "UBLK_TEST_SLOW=$UBLK_TEST_SLOW" >>"$ASKED"
            ;;
          vm*)
            echo "# kernel $2-build"
            for i in 1 2 3 4 5 6; do echo "# $i.5 s"; echo "ok - case $i"; done
            sleep 1
            echo "${VM_SAYS:-6 passed, 0 failed, 0 skipped}"
            ;;
          run*) echo "2 passed, 0 failed, 1 skipped" ;;
        esac
        END
        chmod +x p/program
        for name in scripts/setup scripts/bench scripts/vm Tests/VM/run bin/swift; do cp p/program p/$name; done
        # Time goes faster: 25 s take 0.3 s.
        read() { case " $* " in *" -t 25 "*) builtin read "${@/#25/0.3}" ;; *) builtin read "$@" ;; esac; }
        export -f read
        export ASKED=$PWD/asked PATH=$PWD/p/bin:$PATH
        """

    private func run(_ words: String, vmSays: String = "") -> (run: ProgramRun, asked: String) {
        let run = ProgramRun(
            shell: """
                cd \(scratch.path)
                runner=\(SourceTree.root)/scripts/test
                \(Self.project)
                VM_SAYS='\(vmSays)' timeout 60 p/scripts/test \(words) || status=$?
                rm -r p
                exit ${status:-0}
                """,
            in: scratch
        )
        return (run, contents(of: scratch.file("asked")) ?? "")
    }

    @Test func `what ran is told with kernels, progress, the slowest tests and one count`() {
        let (run, asked) = run("")
        #expect(run.exitCode == 0, "\(run.output)\(run.errors)")
        #expect(run.output.contains("\ntested on 7.3-build\ntested on 6.12-build\n"))
        // 4 checks, a unit test, 2 of the VM's, 6 on each kernel; what the VM skipped.
        #expect(run.output.hasSuffix("\n19 passed, 0 failed, 1 skipped\n"), "\(run.output)")
        let lines = run.output.split(separator: "\n")
        #expect(
            lines.contains { $0.hasPrefix("... device tests") && $0.hasSuffix("6 tests done") },
            "\(run.output)"
        )
        let slowest = lines.drop { !$0.hasPrefix("the slowest tests") }.dropFirst().dropLast()
        #expect(slowest.count == 10)
        #expect(slowest.first?.hasSuffix("6.5  7.3: case 6") == true, "\(slowest)")
        #expect(slowest.contains { $0.hasSuffix("3.5  unit: S, t") })
        #expect(asked.contains("UBLK_TEST_SLOW=0"))
        #expect(!asked.contains("DEVICE_TEST_LONG=1"))
        // All on the newest kernel, what may depend on the driver on the oldest.
        let guests = asked.split(separator: "\n").filter { $0.hasPrefix("vm ") }
        #expect(guests.count == 2, "\(guests)")
        #expect(guests.first?.hasSuffix("Tests/Device/run") == true, "\(guests)")
        #expect(guests.last?.hasSuffix("Tests/Device/run --driver") == true, "\(guests)")
    }

    @Test func `the long run has all four kernels and what takes hours, and its own count`() {
        let (run, asked) = run("--long")
        #expect(run.exitCode == 0, "\(run.output)\(run.errors)")
        // Once each, and in this order, though 7.3 has two guests.
        let tested = ["7.3", "7.2", "6.18", "6.12"].map { "\ntested on \($0)-build" }.joined()
        #expect(run.output.contains("\(tested)\nthe slowest"), "\(run.output)")
        #expect(run.output.hasSuffix("\n37 passed, 0 failed, 1 skipped\n"), "\(run.output)")
        #expect(asked.contains("UBLK_TEST_SLOW=1"))
        let guests = asked.split(separator: "\n").filter { $0.hasPrefix("vm ") }
        #expect(guests.count == 5 && guests.allSatisfy { $0.contains("DEVICE_TEST_LONG=1") })
        #expect(!asked.contains("--driver"))
        // The reloads have theirs, which runs nothing else.
        let reloads = guests.filter { $0.contains("RELOADS=100000 RELOAD_IOPS=100 ") }
        #expect(reloads.count == 1, "\(guests)")
        #expect(reloads.allSatisfy { $0.hasSuffix("Tests/Device/run reload") }, "\(guests)")
        #expect(guests.count { $0.contains("DEVICE_TEST_ROUNDS=1000 ") } == 1, "\(guests)")
        // Three begin at once, the third kernel after the first and the fourth after the second.
        let begun = guests.compactMap { $0.split(separator: " ").dropFirst(2).first }
        #expect(Set(begun.prefix(3)) == ["7.3", "7.2"], "\(begun)")
        #expect(Set(begun.suffix(2)) == ["6.18", "6.12"], "\(begun)")
    }

    @Test func `a kernel that is named is the one tested`() {
        let (run, asked) = run("--kernel 6.12.95")
        #expect(run.output.contains("tested on 6.12.95-build\n"))
        #expect(asked.split(separator: "\n").count { $0.hasPrefix("vm ") } == 1)
    }

    @Test func `a run without a device test, and one that does not end, is no success`() {
        let (none, _) = run("", vmSays: "0 passed, 0 failed, 7 skipped")
        #expect(none.exitCode == 1)
        #expect(none.output.contains("FAIL - no device test ran"))
        let (cut, _) = run("", vmSays: "Oops")
        #expect(cut.exitCode == 1)
        #expect(cut.output.contains("FAIL - the tests did not finish: 7.3"))
        let (quick, _) = run("--quick")
        #expect(quick.exitCode == 0 && quick.output.contains("was left out"))
    }
}
