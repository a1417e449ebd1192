import CLua
import Testing

@testable import UblkScript

/// What rules and verdicts do to data: corrupt, store, misdirect.
@Suite struct EffectTests {
    private func data(
        _ script: String,
        _ requests: [SimulatedRequest],
        settings: [String: String] = [:]
    ) throws -> (check: DataCheck, result: Simulation.Result) {
        let result = try simulate(script, settings: settings) { $0.workload = Workload(requests) }
        return (try #require(result.report.data), result)
    }

    private static let writeThenReads: [SimulatedRequest] =
        [.write(0)] + Array(repeating: .read(0), count: 6)

    // MARK: Corruption

    @Test func `a corrupted read never, sometimes and always differs`() throws {
        func differing(_ rule: String) throws -> Int {
            let script = "rule { op = \"read\", verdict = corrupt(\"flip\"), \(rule) }"
            return try data(script, Self.writeThenReads).check.differing
        }
        #expect(try differing("nth = 99") == 0)
        #expect(try differing("every = 2") == 3)
        #expect(try differing("every = 1") == 6)
    }

    @Test func `a corrupted write stays corrupt until it is rewritten`() throws {
        let script = "rule { op = \"write\", nth = 1, verdict = corrupt(\"garbage\") }"
        let (check, result) = try data(
            script,
            [.write(0), .read(0), .read(0), .write(0), .read(0)]
        )
        #expect(check.differing == 16, "eight sectors, read twice")
        #expect(result.action("corrupted") == 1)
    }

    @Test func `a handler corrupts, and its verdict adds up with others`() throws {
        let script = """
            local rot = corrupt { mode = "flip", bits = 8 } + delay("1ms")
            function read(io, offset) if offset == 0 then return rot end end
            """
        let (check, result) = try data(
            script,
            [.write(0), .write(4096), .read(0), .read(4096)]
        )
        #expect((1...8).contains(check.corrupt), "sectors")
        #expect(result.action("corrupted") == 1)
        #expect(result.action("delayed") == 1)
    }

    @Test func `corruption by a rule is kept when a handler or a later rule decides, too`() throws {
        for rest in [
            "function read() return delay(\"1ms\") end", "rule { op = \"read\", hang = \"1ms\" }",
        ] {
            let script = "rule { op = \"read\", verdict = corrupt(\"flip\") }\n\(rest)"
            #expect(try data(script, [.write(0), .read(0)]).check.differing == 1, "\(rest)")
        }
    }

    @Test func `rot is where the range is until a write heals it`() throws {
        let script = """
            local rotten = ranges("rotten"):add("4K", 512)
            rule { op = "read", range = rotten, verdict = corrupt { mode = "flip", sticky = true } }
            rule { op = "write", range = rotten, skip = 1, heal = true }
            """
        let (check, _) = try data(
            script,
            [
                .write(0, 16384), .read(0), .read(4096), .read(4096, 512), .read(4608, 512),
                .read(0, 16384), .write(4096, 512), .read(0, 16384),
            ]
        )
        #expect(check.differing == 3)
    }

    /// 4 KiB of a byte, after the corruption.
    private func corrupted(
        _ text: String,
        offset: UInt64 = 0,
        seed: UInt64 = 1,
        byte: UInt8 = 0x55,
        in set: (offset: UInt64, length: UInt64)? = nil
    ) throws -> [UInt8] {
        let shared = SharedObjects(queues: 1)
        let source = ScriptSource(path: "t.lua", text: "rule { op = \"read\", verdict = \(text) }")
        let script = try Script(source, shared: shared, options: .init())
        var decision = try script.declarations().rules[0].decision
        decision.corrupt_seed = seed
        var data = [UInt8](repeating: byte, count: 4096)
        let range = set == nil ? nil : shared.ranges.makeSet()
        if let set { range?.add(set.offset, set.length) }
        decision.corrupt_range = range?.address ?? 0
        unsafe data.withUnsafeMutableBytes {
            unsafe Corruption(decision).apply(to: $0, offset: offset, patches: nil)
        }
        return data
    }

    private func changed(_ data: [UInt8], from byte: UInt8 = 0x55) -> [Int] {
        data.indices.filter { data[$0] != byte }
    }

    @Test func `a flip changes that many bits, others for another seed`() throws {
        let one = try corrupted("corrupt(\"flip\")")
        #expect(changed(one).count == 1)
        #expect((one[changed(one)[0]] ^ 0x55).nonzeroBitCount == 1)
        #expect(try corrupted("corrupt(\"flip\")") == one)
        #expect(try corrupted("corrupt(\"flip\")", seed: 2) != one)
        let many = try corrupted("corrupt { mode = \"flip\", bits = 100 }")
        #expect((80...100).contains(many.reduce(0) { $0 + ($1 ^ 0x55).nonzeroBitCount }))
    }

    @Test func `set, zero and garbage change the bytes they are told to`() throws {
        let set = try corrupted("corrupt { mode = \"set\", value = 7, at = 10, len = 3 }")
        #expect(changed(set) == [10, 11, 12] && set[10] == 7)
        let zero = try corrupted("corrupt { mode = \"zero\", at = 4000 }")
        #expect(changed(zero) == Array(4000..<4096) && zero[4095] == 0)
        let garbage = try corrupted("corrupt { mode = \"garbage\", at = 1, len = 1001 }")
        #expect(changed(garbage).allSatisfy { (1...1001).contains($0) })
        #expect(changed(garbage).count > 950)
    }

    @Test func `a stuck bit is the same in every sector and of every read`() throws {
        let stuck = try corrupted("corrupt { mode = \"stuck\", at = 100, bit = 1, value = 1 }")
        #expect(changed(stuck) == Array(stride(from: 100, to: 4096, by: 512)))
        #expect(stuck[100] == 0x57)
        let low = try corrupted("corrupt { mode = \"stuck\", at = 100, bit = 0 }")
        #expect(low[612] == 0x54)
    }

    @Test func `sticky corruption depends on the sector and keeps to the range`() throws {
        let text = "corrupt { mode = \"flip\", sticky = true }"
        let all = try corrupted(text)
        #expect(changed(all).map { $0 / 512 } == Array(0..<8))
        let later = try corrupted(text, offset: 2048)
        #expect(Array(all[2048...]) == Array(later[..<2048]))
        let some = try corrupted(text, offset: 8192, in: (8192 + 1024, 1024))
        #expect(changed(some).map { $0 / 512 } == [2, 3])
    }

    // MARK: Writes stored in part

    private func part(_ text: String, length: UInt64, seed: UInt64) throws -> Range<UInt64> {
        let source = ScriptSource(path: "t.lua", text: "rule { op = \"write\", verdict = \(text) }")
        let script = try Script(source, shared: SharedObjects(queues: 1), options: .init())
        var decision = try script.declarations().rules[0].decision
        decision.store_seed = seed
        var write = TornWrite(decision, length: length)
        return write.run()
    }

    @Test func `a prefix, suffix or middle loses at least one unit and keeps one`() throws {
        for keep in ["prefix", "suffix", "middle"] {
            var lengths: Set<UInt64> = []
            for seed in 1...200 {
                let range = try part("store(\"\(keep)\")", length: 4096, seed: UInt64(seed))
                #expect(range.lowerBound % 512 == 0 && range.upperBound % 512 == 0)
                #expect(range.count >= 512 && range.count < 4096 && range.upperBound <= 4096)
                if keep == "prefix" { #expect(range.lowerBound == 0) }
                if keep == "suffix" { #expect(range.upperBound == 4096) }
                lengths.insert(UInt64(range.count))
            }
            #expect(lengths.count == 7)
        }
    }

    @Test func `a number of units is kept as it is said`() throws {
        let shorn = "store { keep = \"prefix\", unit = 512, units = 7 }"
        #expect(try part(shorn, length: 4096, seed: 1) == 0..<3584)
        #expect(try part(shorn, length: 2048, seed: 1) == 0..<2048)
        #expect(
            try part("store { keep = \"suffix\", units = 1 }", length: 4096, seed: 1) == 3584..<4096
        )
        #expect(try part("store { keep = \"prefix\", unit = 4096 }", length: 4096, seed: 1).isEmpty)
        let unit4K = "unit = 4096, units = 1 }"
        #expect(
            try part("store { keep = \"suffix\", \(unit4K)", length: 4608, seed: 1) == 4096..<4608
        )
        for seed in 1...20 as ClosedRange<UInt64> {
            let middle = "store { keep = \"middle\", unit = \"1M\" }"
            #expect(try part(middle, length: 4096, seed: seed).isEmpty, "one unit, and it is lost")
        }
        #expect(try part("store(\"all\")", length: 4096, seed: 1) == 0..<4096)
        #expect(try part("store(\"none\")", length: 4096, seed: 1).isEmpty)
    }

    @Test(arguments: ["memory", "file"])
    func `a torn write succeeds and leaves old and new data`(backing: String) throws {
        let script =
            "rule { op = \"write\", nth = 2, verdict = store { keep = \"prefix\", units = 4 } }"
        let (check, result) = try data(
            script,
            [
                .write(0, 512), .write(0, 4096), .read(0, 2048), .read(2048, 2048), .write(0),
                .read(0),
            ],
            settings: ["backing": backing, "file": backing == "file" ? "/x" : ""].filter {
                !$0.value.isEmpty
            }
        )
        #expect(result.outcomes.allSatisfy { $0.isEmpty })
        #expect(result.action("torn") == 1)
        #expect(check.differing == 4, "the four sectors behind the fourth")
    }

    @Test(arguments: [
        ("store(\"none\")", 1), ("store { keep = \"prefix\", units = 4 }", 1),
        ("store(\"all\")", 0),
    ])
    func `only what is stored is healed`(store: String, errors: Int) throws {
        let script = """
            local bad = ranges("bad"):add("2K", 512)
            rule { op = "read", range = bad, error = "ENODATA" }
            rule { op = "write", range = bad, heal = true }
            rule { op = "write", verdict = \(store) }
            """
        let (_, result) = try data(script, [.write(0), .read(0)])
        #expect(result.outcomes.count { $0 == "ENODATA" } == errors)
    }

    @Test func `a failing write stores what it is told to`() throws {
        func writes(_ store: String) throws -> Int {
            let script = "rule { op = \"write\", verdict = fail(\"EIO\")\(store) }"
            let (_, result) = try data(
                script,
                [.write(0)],
                settings: ["backing": "file", "file": "/x"]
            )
            #expect(result.outcomes == ["EIO"])
            #expect(result.action("failed") == 1)
            return result.fileOperations.filter { $0.key == .write || $0.key == .writeDurably }
                .values.reduce(0, +)
        }
        #expect(try writes("") == 0)
        #expect(try writes(" + store(\"none\")") == 0)
        #expect(try writes(" + store(\"prefix\")") == 1)
        #expect(try writes(" + store(\"all\")") == 1)
    }

    // MARK: Misdirection

    @Test func `a misdirected write leaves its place and hits another`() throws {
        let script = "rule { op = \"write\", nth = 3, verdict = misdirect(\"8K\") }"
        let (check, _) = try data(
            script,
            [.write(0), .write(8192), .write(0), .read(0), .read(8192), .read(4096)]
        )
        #expect(check.differing == 16)
        #expect(check.stale == 8 && check.foreign == 8)
    }

    @Test func `what would miss the device goes the other way or stays`() {
        func place(_ distance: Int64, _ offset: UInt64, size: UInt64 = 1 << 20) -> UInt64 {
            var decision = us_decision()
            decision.is_relative = 1
            decision.to_offset = UInt64(bitPattern: distance)
            return decision.redirected(offset, 4096, deviceBytes: size)
        }
        #expect(place(8192, 0) == 8192)
        #expect(place(-8192, 16384) == 8192)
        #expect(place(-8192, 0) == 8192)
        #expect(place(8192, (1 << 20) - 4096) == (1 << 20) - 12288)
        #expect(place(1 << 30, 4096) == 4096)
    }

    // MARK: Refusals

    @Test(arguments: [
        ("corrupt(\"flop\")", "mode = \"flop\""), ("corrupt {}", "mode is missing"),
        ("corrupt(3)", "a word or a table"),
        ("corrupt { mode = \"stuck\", bit = 8 }", "0 to 7"),
        ("corrupt { mode = \"flip\", bist = 8 }", "unknown key"),
        ("corrupt { mode = \"set\", value = 256 }", "0 to 255"),
        ("corrupt { mode = \"stuck\", at = 512 }", "0 to 511"),
        ("store(\"half\")", "keep = \"half\""),
        ("store { keep = \"prefix\", unit = 100 }", "multiple of 512"),
        ("misdirect(0)", "whole sectors"),
        ("misdirect(100)", "whole sectors"),
        ("corrupt(\"flip\") + corrupt(\"flip\")", "corrupt twice"),
        ("store(\"all\") + store(\"all\")", "twice what is stored"),
    ])
    func `what is no effect is refused by file and line`(text: String, part: String) {
        let error = loadError("\nlocal v = \(text)")
        #expect(error?.text.hasPrefix("test.lua:2: ") == true, "\(error?.text ?? "accepted")")
        #expect(error?.text.contains(part) == true, "\(error?.text ?? "accepted")")
    }

    @Test(arguments: [
        ("verdict = corrupt(\"flip\")", "cannot apply to a flush: add op = \"read\" or"),
        ("op = \"read\", verdict = store(\"none\")", "to a read: add op = \"write\""),
        ("op = \"flush\", verdict = misdirect(512)", "misdirect(512) cannot apply to a flush"),
        ("op = \"write\", error = \"EIO\", verdict = store(\"all\")", "verdict excludes error"),
        ("op = \"write\", verdict = 3", "verdict = 3"),
    ])
    func `a rule's op must be able to do it`(rule: String, part: String) {
        let text: String
        do {
            _ = try simulate("\nrule { \(rule) }")
            text = "accepted"
        } catch { text = "\(error)" }
        #expect(text.hasPrefix("test.lua:2: ") && text.contains(part), "\(rule): \(text)")
    }

    @Test func `a handler that asks for the impossible is told so`() throws {
        let harness = try ScriptHarness("function flush() return corrupt(\"flip\") end")
        guard case .failure(let error) = harness.outcome(.flush) else {
            Issue.record("accepted")
            return
        }
        #expect(error.text.contains("flush returned corrupt(\"flip\"), which a flush cannot do"))
    }
}
