import Testing

@testable import UblkScript

/// What a value or a combination says must be done, or refused: nothing is ignored or taken for something else.
struct ContradictionTests {
    private static func refusal(_ text: String) -> String {
        let source = ScriptSource(path: "x.lua", text: "device { size = \"1G\" }\n" + text)
        do throws(ScriptProblem) {
            _ = try LoadedScript.plan(source)
            return "(accepted)"
        } catch { return error.description }
    }

    private static let scripts: [(String, String)] = [
        (#"corrupt { mode = "flip", bit = 0, value = 3 }"#, #"value = 3 is of no use with "flip""#),
        (#"corrupt { mode = "flip", bit = 0 }"#, #"bit = 0 is of no use with "flip""#),
        (#"corrupt { mode = "set", bits = 3 }"#, #"bits = 3 is of no use with "set""#),
        (#"corrupt { mode = "zero", value = 3 }"#, #"value = 3 is of no use with "zero""#),
        (#"corrupt { mode = "stuck", len = 3 }"#, #"len = 3 is of no use with "stuck""#),
        (#"corrupt { mode = "stuck", sticky = false }"#, "sticky = false is of no use"),
        (#"corrupt("flip\0x")"#, #"mode = "flip\x00x""#),
        (#"store { keep = "all", units = 3 }"#, #"units = 3 is of no use with "all""#),
        (#"store { keep = "none", unit = 512 }"#, #"unit = 512 is of no use with "none""#),
        (#"fail("EIO", "EROFS")"#, #"fail(errno): argument 2 is of no use: "EROFS""#),
        (#"delay("5ms", "1s")"#, #"delay(time): argument 2 is of no use: "1s""#),
        (#"drop(true)"#, "argument 1 is of no use"),
        (#"ranges("a", "1M")"#, "ranges(name): argument 2 is of no use"),
        (#"ranges("a\nb")"#, #"bad name "a\x0ab" (byte 2 is a control character)"#),
        (#"counter("\27[2J")"#, "byte 1 is a control character"),
        (#"dict(5)"#, "dict: bad name 5"),
        (#"bucket { rate = "1M", name = 5 }"#, "bucket: bad name 5"),
        (#"bucket { rate = "1M", name = "" }"#, #"bucket: bad name """#),
        (#"bucket { rate = "1M", ["burst\0"] = 5 }"#, "bucket: unknown key"),
        (#"dist.mix { { 0.9, "1ms", "2ms" } }"#, "3 is of no use"),
        (#"dist.mix { { 0.9, "1ms" }, seed = 1 }"#, #""seed" is of no use"#),
        (#"dist.empirical { { { "1ms", "2ms", "3ms" }, 1 } }"#, "3 is of no use"),
        (#"rule { name = "all", error = "EIO" }"#, "all means every rule"),
        (#"rule { p = "0.5\0x", error = "EIO" }"#, "a number from 0.0 to 1.0"),
        (#"rule { mark = "a\rb" }"#, "byte 2 is a control character"),
        (#"rule { set_state = "a\27b" }"#, "byte 2 is a control character"),
        (#"rule { after = { mark = "a\0b" }, error = "EIO" }"#, "text that is not empty"),
        (#"rule { window = { "5s", from = "1s" }, error = "EIO" }"#, "with names and with items"),
        (#"rule { after = "10s", before = "5s", error = "EIO" }"#, "could never act"),
        (#"rule { after = { ops = 9 }, before = { ops = 9 }, error = "EIO" }"#, "could never act"),
        (#"rule { nth = 5, every = 2, error = "EIO" }"#, "nth and every exclude each other"),
        (#"rule { window = { from = "1s", period = "0s" }, error = "EIO" }"#, "a time from 1ns"),
        (
            #"rule { op = "write", range = ranges("r"), heal = true, error = "EIO" }"#,
            "heals nothing"
        ),
        (#"rule { service = { servers = 3 } }"#, "time, bandwidth or max_seek"),
        (
            #"rule { op = "read", verdict = corrupt("flip"), zero = true }"#,
            "verdict excludes error, delay"
        ),
    ]

    @Test(arguments: scripts)
    func `what a script says to no effect is refused`(text: String, why: String) {
        let refusal = Self.refusal(text)
        #expect(refusal.contains(why), "\(text): \(refusal)")
        #expect(refusal.contains("x.lua:2"), "\(text): \(refusal)")
    }

    private static let devices: [(String, String)] = [
        (#"discard = { granularity = "64K", max = "4K" }"#, "a size from 64K"),
        (#"discard = { granularity = "64K", max = "100K" }"#, "a multiple of 64K"),
        (#"write_zeroes = { granularity = "64K" }"#, "{ max = ... }"),
        (#"write_zeroes = { max = 1000 }"#, "a multiple of 512"),
        (#"discard = { max = "1M", 5 }"#, "with names and with items"),
    ]

    @Test(arguments: devices)
    func `limits that the kernel would take for others are refused`(keys: String, why: String) {
        let source = ScriptSource(path: "x.lua", text: "device { size = \"1G\", \(keys) }")
        let error = #expect(throws: ScriptProblem.self) { _ = try LoadedScript.plan(source) }
        #expect(error?.description.contains(why) == true, "\(error?.description ?? "")")
    }

    @Test func `a key is given once on the command line`() {
        #expect(throws: ConfigError.self) { try Setting.arguments(["size=1G", "size=2G"]) }
        #expect(throws: ConfigError.self) { try Setting.arguments(["max-io=1M", "max_io=2M"]) }
        #expect(throws: Never.self) { try Setting.arguments(["size=1G", "depth=2"]) }
    }
}
