import Testing

@testable import UblkScript

/// `check` warns of what can never act, and is as strict as `add` and `simulate`.
struct ScriptFindingsTests {
    private func findings(_ text: String, device: String = "") throws -> [String] {
        let source = ScriptSource(
            path: "x.lua",
            text: "device { size = \"1G\", \(device) }\n" + text
        )
        return try LoadedScript.plan(source).findings.map { "\($0.origin): \($0.text)" }
    }

    private static let cases: [(device: String, text: String, finding: String)] = [
        ("", #"rule { op = "flush", error = "EIO" }"#, #"no cache = "volatile""#),
        ("", "function flush() end", "flush() is never called: no flush arrives"),
        ("", #"rule { flags = "fua", error = "EIO" }"#, "no IO has the flag fua"),
        (
            #"cache = "volatile", fua = true"#,
            #"rule { op = "read", flags = "fua", error = "EIO" }"#,
            "only writes have the flag fua"
        ),
        ("", #"rule { op = "write", flags = "nounmap", error = "EIO" }"#, "only write_zeroes has"),
        (
            #"cache = "volatile", fua = true"#, #"rule { op = "write", ignore_fua = true }"#,
            "ignore_fua changes nothing: memory"
        ),
        (
            "", #"rule { range = { "2G", "4K" }, error = "EIO" }"#,
            "begins at 2147483648, and the device ends"
        ),
        (
            "", #"rule { range = ranges("r"):add("1023M", "4M"), error = "EIO" }"#,
            "a part of its range lies past the end"
        ),
        ("", #"rule { queue = 7, error = "EIO" }"#, "queue = 7: the device has 0 to 0"),
        ("depth = 4", #"rule { tag = 4, error = "EIO" }"#, "tag = 4: the device has 0 to 3"),
        ("depth = 4", #"rule { depth = 5, error = "EIO" }"#, "depth = 5: a queue has 4 tags"),
        ("", #"rule { op = "read", len = "1M", error = "EIO" }"#, "longer than 524288 bytes"),
        ("", #"rule { op = "read", len = 100, error = "EIO" }"#, "a block has 512 bytes"),
        ("", #"rule { p = 0, error = "EIO" }"#, "p = 0"),
        ("", #"rule { before = "0s", error = "EIO" }"#, "before has come"),
        (
            "", #"rule { op = "write", content = { at = "1M", hex = "00" }, error = "EIO" }"#,
            "content ends behind the longest write"
        ),
        ("read_only = true", #"rule { op = "write", error = "EIO" }"#, "the device is read-only"),
        ("discard = false", #"rule { op = "discard", error = "EIO" }"#, "does not offer discard"),
        (
            "", "rule { error = \"EIO\" }\nrule { op = \"read\", delay = \"1s\" }",
            "ends at the rule of line 2"
        ),
        (
            "", "rule { op = \"read\", hang = true }\nfunction read() end",
            "read() is never called: every such IO"
        ),
        ("", "function raed() end", "raed() is called by nobody but the script: is read() meant?"),
        ("", "function Write() end", "is write() meant?"),
        ("", "function ctrl() end", "is ctl() meant?"),
        ("file = \"/proc\"", "", "neither a regular file nor a block device"),
        ("file = \"/proc/self/status\"", "", "it has 0 bytes, 1073741824 are needed"),
        ("queues = 4096", "", "the driver gives at most one to a CPU"),
        ("file = \"/dev/sdx\"", "", "no file is made below /dev; is its name right?"),
        ("file = \"/proc/sdx\"", "", "no file is made below /proc"),
        ("file = \"/sys/sdx\"", "", "no file is made below /sys"),
        ("", "backing { file = \"/dev/sdx\", size = \"1M\" }", "no file is made below /dev"),
        ("file = \"/nowhere/a.img\"", "", "there is no folder /nowhere/ to make it in"),
        ("file = \"/etc/passwd/a.img\"", "", "a part of its path is no folder"),
        ("", "backing { file = \"/nowhere.img\" }", "no size is given to make it with"),
        (
            "", "rule { every = 1, error = \"EIO\" }\nrule { op = \"read\", delay = \"1s\" }",
            "ends at the rule of line 2"
        ),
    ]

    @Test(arguments: cases)
    func `what can never act is told of`(device: String, text: String, finding: String) throws {
        let found = try findings(text, device: device)
        #expect(
            found.contains { $0.hasPrefix("x.lua:") && $0.contains(finding) },
            "\(text): \(found)"
        )
    }

    private static let good: [(String, String)] = [
        ("", #"rule { error = "EIO", p = 0.5 } rule { op = "read", delay = "1s" }"#),
        ("", #"rule { op = "read", error = "EIO" } rule { op = "write", delay = "1s" }"#),
        ("", #"rule { error = "EIO", trigger = "/tmp/x" } rule { op = "read", delay = "1s" }"#),
        (#"cache = "volatile""#, #"rule { op = "flush", drop = true }"#),
        ("", #"rule { op = { "read", "flush" }, error = "EIO" }"#),
        ("", #"rule { range = ranges("bad"), error = "EIO" }"#),
        ("", "function helper() end function reader() end function read() end"),
        ("", "local function raed() end"),
    ]

    @Test(arguments: good)
    func `what may act is not told of`(device: String, text: String) throws {
        #expect(try findings(text, device: device) == [])
    }

    @Test(arguments: ShippedScript.all.map(\.name))
    func `a shipped script has nothing in it that cannot act`(name: String) throws {
        let source = ScriptSource(try #require(ShippedScript.named(name)))
        #expect(try LoadedScript.plan(source).findings == [])
    }

    @Test func `a file without a block is told of, and one that is made is not`() throws {
        let scratch = ScratchDirectory()
        func found(_ path: String, _ device: String = "") throws -> [String] {
            let text = "device { \(device) file = \"\(path)\" }"
            return try LoadedScript.plan(ScriptSource(path: "x.lua", text: text)).findings
                .map(\.text)
        }
        let empty = scratch.write("empty", "")
        #expect(try found(empty).contains { $0.contains("it has 0 bytes, 512 are needed") })
        #expect(try found(scratch.write("block", String(repeating: "x", count: 512))) == [])
        #expect(try found(scratch.file("new"), "size = \"1M\",") == [])
    }

    @Test func `check loads as a queue does, within the memory that the script gives itself`() {
        let scratch = ScratchDirectory()
        let path = scratch.write(
            "small.lua",
            "device { size = \"1M\", memory = \"256K\", depth = 4096 }"
        )
        for words in [["check", path], ["simulate", path, "--ops", "10"]] {
            let run = ProgramRun(words, in: scratch)
            #expect(run.exitCode == 1 && run.errors.contains("memory"), "\(words): \(run.errors)")
        }
    }
}
