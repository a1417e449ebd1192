import ArgumentParser
import Testing

@testable import UblkScript

/// The built program from outside: exit codes, messages, output.
///
/// No device is made.
@Suite(.enabled(if: ProgramRun.program != nil, "ublk-script is not beside the test bundle"))
struct CommandLineTests {
    private let scratch = ScratchDirectory()

    private func run(_ words: String...) -> ProgramRun { ProgramRun(words, in: scratch) }

    /// A script that declares one megabyte of memory, and then `text`.
    private func script(_ text: String = "") -> String {
        scratch.write("faulty.lua", "device { size = \"1M\" }\n" + text)
    }

    // MARK: Help and usage

    @Test func `help names every verb and ends well`() {
        for words in [["--help"], ["-h"], ["help"], []] {
            let run = ProgramRun(words, in: scratch)
            #expect(run.exitCode == 0, "\(words)")
            for verb in UblkScript.configuration.subcommands {
                let name = verb.configuration.commandName ?? ""
                let isShown = verb.configuration.shouldDisplay
                #expect(run.output.contains("\n  \(name) ") == isShown, "\(words): \(name)")
            }
        }
    }

    @Test(
        arguments: UblkScript.configuration.subcommands.map { $0.configuration.commandName ?? "" }
    )
    func `each verb has help that fits 80 columns`(verb: String) {
        let run = run(verb, "--help")
        #expect(run.exitCode == 0)
        #expect(run.output.contains("USAGE: ublk-script \(verb)"))
        let long = run.output.split(separator: "\n").filter { $0.count > 80 }.map(String.init)
        #expect(long.isEmpty, "\(long)")
    }

    private static let misuse: [([String], String)] = [
        (["frobnicate"], "frobnicate"),
        (["check"], "<script>"),
        (["check", "--frobnicate", "x.lua"], "--frobnicate"),
        (["check", "x.lua", "size"], "key=value is expected"),
        (["check", "x.lua", "=1G"], "key=value is expected"),
        (["add", "-n", "x", "x.lua"], "\"x\" is no device: a number from 0 to 1048575"),
        (["add", "-n", "1048576", "x.lua"], "is no device"),
        (["add", "-n", "/dev/sda", "x.lua"], "is no device"),
        (["add", "-d", "x.lua"], "<script>"),
        (["del"], "which device?"),
        (["del", "x"], "is no device"),
        (["del", "-n", "1", "2"], "two devices are named"),
        (["del", "-n", "1", "/dev/ublkb1"], "device 1 is named twice"),
        (["stop", "-n", "1", "1"], "device 1 is named twice"),
        (["list", "-n", "5", "5"], "device 5 is named twice"),
        (["stats", "5", "5"], "device 5 is named twice"),
        (["ledger", "-n", "5", "5"], "device 5 is named twice"),
        (["del", "--all", "0"], "--all is every device"),
        (["del", "--all", "-n", "0"], "--all is every device"),
        (["list", "5", "5"], "device 5 is named twice"),
        (["list", "5", "/dev/ublkb5"], "device 5 is named twice"),
        (["add", "--number=-1", "x.lua"], "\"-1\" is no device"),
        (["add", "--quiet", "--json", "x.lua"], "not both"),
        (["add", "--foreground", "--restart", "x.lua"], "not both"),
        (["recover", "--quiet", "--json", "0"], "not both"),
        (["recover", "x"], "is no device"),
        (["quiesce"], "which device?"),
        (["add", "--ledger", "", "x.lua"], "--ledger: the name of a file is expected"),
        (["check", "x.lua", "size=1G", "size=2G"], "size is given twice"),
        (["check", "x.lua", "depth=7", "-d", "64"], "depth is given twice"),
        (["simulate", "x.lua", "--seed", "1", "seed=2"], "seed is given twice"),
        (["simulate", "x.lua", "-n", "1"], "a simulated device has none"),
        (["simulate", "x.lua", "--bench", "--ledger"], "--bench does not go with --ledger"),
        (["simulate", "x.lua", "--trace", "--ledger"], "--trace does not go with --ledger"),
        (["simulate", "x.lua", "--explain"], "--explain says what the lines of --trace mean"),
        (["simulate", "x.lua", "-o", "t"], "--output takes the steps of --trace"),
        (["trace", "0", "--explain", "-o", "t"], "--output prints nothing"),
        (["trace", "0", "--json", "-o", "t"], "--output prints nothing"),
        (["trace", "0", "--open"], "--open takes the file of --output, which is not there"),
        (["trace", "0", "-o", ""], "--output: the name of a file is expected"),
        (["trace", "-n", "5", "5"], "device 5 is named twice"),
        (["trace", "0", "--explain", "--json"], "not both"),
        (["trace", "0", "--count", "0"], "--count 0: at least 1"),
        (["trace", "0", "--seconds", "0"], "--seconds 0.0: a time above 0"),
        (["stop"], "which device?"),
        (["resize", "0"], "which device? There is none"),
        (["resize", "0", "big"], "\"big\" is no size: 2G, 512M, 4096, or +1G"),
        (["resize", "0", "1G", "2G"], "a device and one size are expected"),
        (["stop", "--safe", "--force", "1"], "--force does: give one of them"),
        (["stop", "/dev/sda1"], "is no device"),
        (["list", "abc"], "is no device"),
        (["ctl"], "<device>"),
        (["ctl", "0"], "words"),
        (["ctl", "/dev/x", "stats"], "is no device"),
        (["features", "now"], "now"),
        (["faults", "--source"], "--source of which script?"),
    ]

    @Test(arguments: misuse)
    func `a wrong command line ends with 2 and says what is wrong`(words: [String], message: String)
    {
        let run = ProgramRun(words, in: scratch)
        #expect(run.exitCode == 2, "\(words): \(run.errors)")
        #expect(run.errors.contains(message), "\(words): \(run.errors)")
        #expect(run.output.isEmpty, "\(words): \(run.output)")
    }

    @Test func `a usage error prints the usage of its command`() {
        for (words, verb) in [
            (["del"], "del"), (["del", "x"], "del"), (["add", "-n", "x", "x.lua"], "add"),
            (["list", "abc"], "list"), (["check", "--frobnicate", "x.lua"], "check"),
            (["simulate", "error", "--rw", "x"], "simulate"),
        ] {
            let run = ProgramRun(words, in: scratch)
            #expect(run.exitCode == 2)
            #expect(run.errors.contains("\nUsage: ublk-script \(verb) "), "\(run.errors)")
            #expect(run.errors.contains("See 'ublk-script \(verb) --help'"), "\(run.errors)")
        }
    }

    @Test func `output that cannot be written is an error of every command`() {
        let path = script("function ctl() end")
        for words in [
            ["--help"], ["check", path], ["check", "--help"], ["faults"], ["faults", "error"],
            ["faults", "error", "--source"], ["faults", "--json"],
            ["simulate", path, "--ops", "10"], ["simulate", "error", "--test"],
            ["--generate-completion-script", "bash"],
        ] {
            let run = ProgramRun(words, in: scratch, output: "/dev/full")
            #expect(run.exitCode == 1, "\(words)")
            #expect(
                run.errors.contains("standard output: No space left on device (ENOSPC)"),
                "\(words): \(run.errors)"
            )
        }
    }

    @Test func `a stream that is closed is one that takes nothing`() {
        let path = script(
            "rule { op = \"read\", error = \"EIO\" }\nfunction write() log(\"said\") end"
        )
        for command in [
            "simulate \(path) --ops 50", "check \(path)", "simulate error --test", "faults",
        ] {
            let program = "\(ProgramRun.program ?? "") \(command)"
            let output = ProgramRun(shell: "\(program) >&-", in: scratch)
            #expect(output.exitCode == 1, "\(command)")
            #expect(
                output.errors.contains("standard output: Bad file descriptor (EBADF)"),
                "\(command): \(output.errors)"
            )
            let all = ProgramRun(shell: "\(program) <&- 2>&-", in: scratch)
            #expect(all.exitCode == 0 && !all.output.isEmpty, "\(command): \(all.output)")
        }
        let input = ProgramRun(shell: "\(ProgramRun.program ?? "") check - <&-", in: scratch)
        #expect(input.exitCode == 1 && input.errors.contains("stdin"), "\(input.errors)")
    }

    @Test func `control characters of an error are spelled out`() {
        let path = scratch.write("loud.lua", "error(\"\\27[31mred\\27[0m\", 0)")
        let run = run("check", path)
        #expect(run.exitCode == 1)
        #expect(!run.errors.contains("\u{1b}"))
        #expect(run.errors.contains("\\x1b[31mred"), "\(run.errors)")
    }

    @Test(arguments: [["-q", "4096"], ["queues=4096"]])
    func `more queues than there are CPUs are refused with what there can be`(words: [String]) {
        for verb in ["add", "check"] {
            let run = ProgramRun([verb, script()] + words, in: scratch)
            #expect(run.exitCode == 1, "\(verb)")
            #expect(
                run.errors.contains(
                    "queues = \"4096\": 1 to \(SystemCall.cpus), at most one for each CPU of this machine, is expected"
                ),
                "\(verb): \(run.errors)"
            )
        }
    }

    // MARK: check

    @Test func `check says what device a script declares`() {
        let path = script(
            """
            rule { op = "read", error = "EIO" }
            rule { delay = "1ms" }
            function write_zeroes() end
            function ctl() end
            log("not shown")
            """
        )
        let run = run("check", path)
        #expect(run.exitCode == 0)
        #expect(run.errors.isEmpty)
        #expect(
            run.output == """
                \(path): ok
                  device: 1M, backing memory
                  queues 1, depth 128, max io 512K
                  rules: 2
                    line 2: error = "EIO", op = "read"
                    line 3: delay = "1ms"
                  handlers: write_zeroes
                  ctl: yes

                """
        )
    }

    @Test func `check of the least script`() {
        let run = run("check", script())
        #expect(run.exitCode == 0)
        #expect(run.output.contains("rules: 0"))
        #expect(run.output.contains("handlers: none"))
        #expect(run.output.contains("ctl: no"))
    }

    @Test func `options and key=value replace what the script says`() {
        let path = script()
        let run = run(
            "check",
            path,
            "size=2G",
            "max-io=1M",
            "-d",
            "64",
            "--queues",
            "\(min(2, SystemCall.cpus))",
            "-n",
            "3"
        )
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(run.output.contains("device: 2G,"))
        #expect(run.output.contains("queues \(min(2, SystemCall.cpus)), depth 64, max io 1M"))
    }

    @Test func `a file of the command line is the backing`() {
        let path = scratch.write("bare.lua", "")
        let run = run("check", path, "-f", "disk.img")
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(run.output.contains("device: size of the file, backing file disk.img"))
    }

    private static let badValues: [([String], String)] = [
        (
            ["-d", "0"],
            "option -d/--depth: depth = \"0\": a whole number from 1 to 4096 is expected"
        ),
        (["--depth=4097"], "option -d/--depth: depth = \"4097\""),
        (["-q", "0"], "option -q/--queues: queues = \"0\": a whole number from 1 to 4096"),
        (["-q", "two"], "option -q/--queues: queues = \"two\""),
        (["-f", ""], "option -f/--file: file = \"\": text that is not empty"),
        (["size=0"], "argument size=0: size = \"0\": a size from 512"),
        (["size=1000"], "a multiple of the logical block (512 bytes)"),
        (["size=4Q"], "argument size=4Q: size = \"4Q\""),
        (["size="], "argument size=: size = \"\""),
        (["sizes=1G"], "argument sizes=1G: device has no key \"sizes\". It has: size, file"),
        (["seed=x"], "argument seed=x: seed = \"x\": a whole number"),
        (["max_io=1000"], "a size from 4K to 32M"),
        (["budget=1"], "a time from 1ms to 5s"),
    ]

    @Test(arguments: badValues)
    func `a bad value ends with 1 and is traced to the command line`(
        words: [String],
        message: String
    ) {
        let path = script()
        for verb in ["check", "add"] {
            let run = ProgramRun([verb, path] + words, in: scratch)
            #expect(run.exitCode == 1, "\(words): \(run.errors)")
            #expect(run.errors.hasPrefix("ublk-script: "))
            #expect(run.errors.contains(message), "\(words): \(run.errors)")
            #expect(run.output.isEmpty)
        }
    }

    private static let badScripts: [(String, String)] = [
        (
            "device { size = \"1M\", depth = 0 }",
            "bad.lua:1: depth = 0: a whole number from 1 to 4096"
        ),
        ("\nrule { error = \"EPERM\" }", "bad.lua:2: error = \"EPERM\": one of"),
        ("\n\nlocal x = = 1", "bad.lua:3:"),
        ("error(\"no\")", "bad.lua:1: no"),
        ("while true do end", "over its time budget (load phase)"),
        ("function read() end", "size is missing"),
        (
            "device { size = 512, memory = \"1M\" } local s = (\"x\"):rep(3 << 29)",
            "bad.lua:1: out of memory"
        ),
        ("\u{1b}Lua", "bytecode is not accepted"),
    ]

    @Test(arguments: badScripts)
    func `a bad script ends with 1 and is traced to its line`(text: String, message: String) {
        let run = run("check", scratch.write("bad.lua", text))
        #expect(run.exitCode == 1, "\(run.errors)")
        #expect(run.errors.contains(message), "\(run.errors)")
        #expect(run.output.isEmpty)
    }

    @Test func `a script that is missing, a directory or a device is refused`() {
        for verb in ["check", "add"] {
            let missing = run(verb, "/nonexistent/x.lua")
            #expect(missing.exitCode == 1)
            #expect(
                missing.errors.contains(
                    "/nonexistent/x.lua: the script cannot be opened: No such file"
                )
            )
            let directory = run(verb, scratch.path)
            #expect(directory.exitCode == 1)
            #expect(directory.errors.contains("\(scratch.path): a script is a regular file"))
            let device = run(verb, "/dev/zero")
            #expect(device.exitCode == 1)
            #expect(device.errors.contains("/dev/zero: a script is a regular file"))
        }
    }

    // MARK: Shipped scripts

    @Test func `faults lists the shipped scripts and shows their manuals and texts`() throws {
        let list = run("faults")
        #expect(list.exitCode == 0)
        let lines = list.output.split(separator: "\n")
        #expect(lines.allSatisfy { $0.count <= 80 })
        for script in ShippedScript.all { #expect(list.output.contains("\n  \(script.name) ")) }
        #expect(lines.first == "Faults:" && lines.contains("Block targets:"))
        let faulty = try #require(ShippedScript.named("faulty"))
        #expect(list.output.contains("faulty "))
        let words = list.output.split { $0 == " " || $0 == "\n" }.joined(separator: " ")
        #expect(words.contains("faulty \(faulty.summary) "))
        #expect(run("faults", "faulty").output == FaultsCommand.text(faulty.manual) + "\n")
        #expect(run("faults", "faulty", "--source").output == faulty.text)
        #expect(run("faults", "--json").output.hasPrefix("[{\"kind\":\"faults\",\"manual\":\""))
        #expect(run("faults", "faulty", "--json").output.contains("\"name\":\"faulty\""))
        let unknown = run("faults", "frobnicate")
        #expect(unknown.exitCode == 1)
        #expect(unknown.errors.contains("\"frobnicate\" is no script of this program. There are: "))
    }

    @Test func `a shipped script is named by a word that is no file`() {
        let shipped = run("check", "faulty", "size=3M")
        #expect(shipped.exitCode == 0 && shipped.output.hasPrefix("faulty: ok\n  device: 3M"))
        let simulated = run("simulate", "faulty", "--ops", "10")
        #expect(simulated.exitCode == 0 && simulated.output.hasPrefix("faulty: seed "))
        let missing = run("check", "flaky")
        #expect(missing.exitCode == 1)
        #expect(missing.errors.contains("flaky: the script cannot be opened (nor is it one of"))
        #expect(run("check", "./faulty").exitCode == 1)
    }

    // MARK: Without a driver

    @Test(.enabled(if: !TestHost.hasDriver, "this machine has a ublk driver"))
    func `without a driver whatever needs one says how to get it`() {
        let path = script()
        for words in [
            ["add", path], ["add", "--foreground", path], ["features"], ["list"], ["list", "0"],
        ] {
            let run = ProgramRun(words, in: scratch)
            #expect(run.exitCode == 1, "\(words)")
            #expect(run.errors.contains("ublk_drv module is not loaded"), "\(words): \(run.errors)")
            #expect(run.errors.contains("modprobe ublk_drv"), "\(words): \(run.errors)")
            #expect(run.output.isEmpty, "\(words): \(run.output)")
        }
    }

    @Test(.enabled(if: !TestHost.hasDriver, "this machine has a ublk driver"))
    func `an add that fails leaves no backing file behind`() {
        let path = script()
        let run = run("add", path, "-f", "new.img")
        #expect(run.exitCode == 1)
        let names = DirectoryListing.names(scratch.path).filter { !$0.hasPrefix(".") }
        #expect(names == ["faulty.lua"])
    }

    @Test func `a very long argument is refused, not a crash`() {
        let path = script()
        let long = run("check", path, "size=" + String(repeating: "9", count: 100_000))
        #expect(long.exitCode == 1)
        let deep = run("check", String(repeating: "x", count: 5000))
        #expect(deep.exitCode == 1)
        #expect(deep.errors.contains("cannot be opened"))
    }
}
