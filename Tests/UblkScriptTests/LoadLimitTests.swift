import Glibc
import Testing

@testable import UblkScript

/// A load phase costs its limit and no more, whatever it is stuck in, and reads no file that never ends.
struct LoadLimitTests {
    /// Loads a script that may take 200 ms; how long that took, and what it said.
    private func load(_ text: String) -> (seconds: Double, error: ScriptError?) {
        var options = Script.Options()
        options.loadLimitNanoseconds = 200_000_000
        let start = SystemCall.monotonicNanoseconds
        let source = ScriptSource(path: "x.lua", text: text)
        var problem: ScriptError?
        do throws(ScriptError) {
            _ = try Script(source, shared: SharedObjects(queues: 1), options: options)
        } catch { problem = error }
        return (Double(SystemCall.monotonicNanoseconds - start) / 1e9, problem)
    }

    @Test func `a sort of long strings is interrupted`() {
        // Comparing takes half a minute.
        let text =
            "local s, t = (\"x\"):rep(1 << 20), {}\nfor i = 1, 20000 do t[i] = s end\ntable.sort(t)"
        let result = load(text)
        #expect(result.error?.status == .budget && result.seconds < 10, "\(result)")
    }

    @Test func `a sort is one that Lua makes`() throws {
        let sorted = "local t = { 3, 1, 2 } table.sort(t) return table.concat(t, \" \")"
        #expect(try ScriptHarness.value(of: "(function() \(sorted) end)()") == "1 2 3")
        let down =
            "local t = { 3, 1, 2 } table.sort(t, function(a, b) return a > b end) return t[1]"
        #expect(try ScriptHarness.value(of: "(function() \(down) end)()") == "3")
        #expect(load("table.sort({ 1, {} })").error?.text.contains("attempt to compare") == true)
    }

    @Test(arguments: ["concat(t, '', 1, COUNT)", "unpack(t, 1, COUNT)", "move(t, 1, COUNT, 1, {})"])
    func `what metatables make up is fetched in moderation`(call: String) {
        func raised(_ count: String) -> String {
            let parts = call.split(separator: "COUNT", omittingEmptySubsequences: false)
            let made = "local base = {} for i = 1, 100 do base[i] = 1 end\n"
            let text = made + "local t = setmetatable({}, { __index = base })\nlocal x = table."
            return load(text + parts.joined(separator: count)).error?.text ?? ""
        }
        #expect(raised("20000").contains("too many elements of a table with __index"))
        #expect(raised("100").isEmpty)
    }

    @Test(arguments: [
        (#"("hello"):find("l", 1, true)"#, "3 3"), (#"("hello"):find("lo")"#, "4 5"),
        (#"("hello"):find("x")"#, "nil"), (#"("hello"):find("", 6)"#, "6 5"),
        (#"("hello"):find("", 7)"#, "nil"), (#"("hello"):find("l", -2)"#, "4 4"),
        (#"("hello"):find("l", -99)"#, "3 3"), (#"("hello"):find("h", 0)"#, "1 1"),
        (#"("a.c"):find(".", 1, true)"#, "2 2"), (#"("a\0b"):find("\0b")"#, "2 3"),
        (#"("abc"):find("(b)")"#, "2 2 b"), (#"(""):find("")"#, "1 0"),
    ])
    func `find finds what Lua finds`(call: String, expected: String) throws {
        let text =
            "(function(a, ...) return a and table.concat({ a, ... }, \" \") or \"nil\" end)(\(call))"
        #expect(try ScriptHarness.value(of: text) == expected)
    }

    @Test func `a search for long text in long text is soon over`() {
        let result = load(
            """
            local text, sought = ("a"):rep(1 << 20), ("a"):rep(1 << 19) .. "b"
            assert(text:find(sought, 1, true) == nil and text:find(sought) == nil)
            """
        )
        #expect(result.error == nil && result.seconds < 5, "\(result)")
    }

    @Test(arguments: ["/dev/zero", "/proc", "fifo", "none"])
    func `a distribution is read from a regular file that is there`(name: String) {
        let scratch = ScratchDirectory()
        unsafe mkfifo(scratch.file("fifo"), 0o600)
        let path = name.hasPrefix("/") ? name : scratch.file(name)
        let result = load("dist.empirical(\"\(path)\")")
        #expect(result.error?.text.contains("dist.empirical: cannot read the file") == true)
        let why = name == "none" ? "No such file" : "a regular file of at most 8 MiB is expected"
        #expect(result.error?.text.contains(why) == true, "\(result.error?.text ?? "")")
        #expect(load("dist.empirical(\"/etc/passwd\\0x\")").error?.text.contains("NUL") == true)
    }

    @Test func `a path of a script is relative to the folder of the command, not to the script's`()
        throws
    {
        let scratch = ScratchDirectory()
        scratch.write("times.txt", "5ms\n")
        var source = ScriptSource(
            path: "/elsewhere/x.lua",
            text:
                "device { size = \"1M\" } rule { delay = dist.empirical(\"times.txt\"), trigger = \"go\" }"
        )
        #expect(throws: ScriptProblem.self) { try LoadedScript.plan(source) }
        source.directory = scratch.path
        let plan = try LoadedScript.plan(source)
        #expect(plan.rules[0].trigger == scratch.file("go"))
    }

    @Test(.enabled(if: ProgramRun.program != nil, "ublk-script is not beside the test bundle"))
    func `a command ends when a load phase is stuck in a pattern`() {
        let scratch = ScratchDirectory()
        let path = scratch.write(
            "stuck.lua",
            "local x = (\"a\"):rep(60):find((\"a*\"):rep(60) .. \"b\")\ndevice { size = \"1M\" }"
        )
        let run = ProgramRun(["check", path], in: scratch)
        #expect(run.exitCode == 1)
        #expect(
            run.errors.contains("stuck.lua: the load phase is over its 5s, stuck"),
            "\(run.errors)"
        )
    }
}
