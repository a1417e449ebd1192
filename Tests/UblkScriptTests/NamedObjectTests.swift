import CLua
import Testing

@testable import UblkScript

/// Objects that are found by their names, however many there are.
@Suite struct NamedObjectTests {
    private static let kinds = [
        "counter(\"n\" .. i)", "bucket { name = \"n\" .. i, rate = 1 }", "dict(\"n\" .. i)",
        "ranges(\"n\" .. i)",
    ]

    @Test(arguments: kinds)
    func `60,000 names take no longer each than a few`(call: String) throws {
        // A walk over all of them for each takes many seconds.
        let options = Script.Options(loadLimitNanoseconds: 1_500_000_000)
        let text = "for round = 1, 2 do for i = 1, 60000 do local object = \(call) end end"
        #expect(loadError(text, options: options) == nil)
    }

    @Test(arguments: kinds)
    func `more names than there may be are refused`(call: String) throws {
        let error = loadError("for i = 1, 70000 do local object = \(call) end")
        #expect(error?.status == .runtime)
        #expect(error?.text.contains("out of memory, ") == true, "\(error?.text ?? "it loads")")
    }

    @Test func `marks and states are found among many`() throws {
        let harness = try ScriptHarness(
            """
            function ctl()
              for round = 1, 2 do
                for i = 1, 30000 do mark("m" .. i) state("s" .. i) assert(state() == "s" .. i) end
              end
              return mark("m7"), state("s29999")
            end
            """
        )
        let start = SystemCall.threadCPUNanoseconds
        #expect(try harness.ctl() == "3\ts29999")
        #expect(SystemCall.threadCPUNanoseconds - start < 1_500_000_000)
        #expect(harness.shared.countOfMark("m30000") == 2 && harness.shared.countOfMark("m0") == 0)
        #expect(harness.shared.stateName == "s29999")
    }

    @Test func `an object is its name's and its kind's`() throws {
        let shared = SharedObjects(queues: 2)
        let harness = try ScriptHarness(
            """
            local names = { "a", "b", "ab", "ba", "a" .. ("b"):rep(63) }
            for i, name in ipairs(names) do
              counter(name):set(i) dict(name):set("i", i + 10) ranges(name):add(i * 4096, 4096)
            end
            function ctl() mark("a") end
            """,
            shared: shared
        )
        _ = try harness.ctl()
        let names = ["a", "b", "ab", "ba", "a" + String(repeating: "b", count: 63)]
        for (index, name) in names.enumerated() {
            guard let cell = shared.cell(US_CELL_COUNTER, name),
                let set = shared.ranges(named: name)
            else {
                Issue.record("\(name) is not there")
                continue
            }
            let count = cell.value
            let isInside = set.overlaps(UInt64(index + 1) * 4096, 1)
            let bytes = set.bytes
            #expect(count == Int64(index + 1) && isInside && bytes == 4096, "\(name)")
        }
        #expect(shared.countOfMark("a") == 1 && shared.countOfMark("b") == 0)
        #expect(shared.rangesNames == names)
        let isNone = shared.ranges(named: "aba") == nil
        #expect(isNone)
    }
}
