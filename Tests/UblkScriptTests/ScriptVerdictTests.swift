import CLua
import Testing

@testable import UblkScript

/// Verdicts: how they are made and added, what an op can do, what a handler may return.
@Suite struct ScriptVerdictTests {
    /// What a read handler that returns `expression` decides.
    private func verdict(_ expression: String) throws -> Verdict {
        try ScriptHarness("function read(io) return \(expression) end").decide(.read)
    }

    private static let verdicts: [(String, Verdict)] = [
        ("nil", .pass),
        ("", .pass),
        ("fail(\"ENODATA\")", .fail("ENODATA")),
        ("delay(\"50ms\")", Verdict(delay: 50_000_000)),
        ("delay(50*ms)", Verdict(delay: 50_000_000)),
        ("delay(1.5)", Verdict(delay: 2)),
        ("delay(0)", .pass),
        ("hang()", Verdict(hang: 0)),
        ("hang(nil)", Verdict(hang: 0)),
        ("hang(\"2s\")", Verdict(hang: 2_000_000_000)),
        ("hang(\"2s\", fail(\"EIO\"))", Verdict(outcome: .fail(5), hang: 2_000_000_000)),
        ("hang(nil, fail(\"EIO\"))", Verdict(outcome: .fail(5), hang: 0)),
        ("zero()", Verdict(outcome: .zero)),
        ("to(8192)", Verdict(outcome: .redirect(8192))),
        ("to(\"1M\")", Verdict(outcome: .redirect(1 << 20))),
    ]

    @Test(arguments: verdicts)
    func `a handler's verdict is what happens`(expression: String, expected: Verdict) throws {
        #expect(try verdict(expression) == expected)
    }

    private static let sums: [(String, Verdict)] = [
        ("delay(1) + delay(2)", Verdict(delay: 3)),
        ("delay(\"1ms\") + fail(\"EIO\")", Verdict(outcome: .fail(5), delay: 1_000_000)),
        ("fail(\"EIO\") + delay(\"1ms\")", Verdict(outcome: .fail(5), delay: 1_000_000)),
        ("hang() + fail(\"EIO\") + delay(7)", Verdict(outcome: .fail(5), delay: 7, hang: 0)),
        ("hang(5) + zero()", Verdict(outcome: .zero, hang: 5)),
        ("to(512) + delay(1)", Verdict(outcome: .redirect(512), delay: 1)),
        ("delay(9223372036854775807) + delay(1)", Verdict(delay: UInt64(Int64.max))),
    ]

    @Test(arguments: sums)
    func `verdicts add up`(expression: String, expected: Verdict) throws {
        #expect(try verdict(expression) == expected)
    }

    @Test(arguments: [
        ("fail(\"EIO\") + fail(\"EIO\")", "cannot fail twice"),
        ("fail(\"EIO\") + zero()", "cannot both fail and zero"),
        ("hang() + hang(1)", "cannot hang twice"),
        ("hang(1, hang(2))", "cannot hang twice"),
        ("fail(\"EIO\") + 1", "a verdict (fail, delay, ...) is expected, got 1"),
        ("\"x\" + fail(\"EIO\")", "got \"x\""),
        ("fail(\"EIO\") .. \"\"", "concatenate"),
    ])
    func `contradictions are refused`(expression: String, message: String) {
        #expect { try verdict(expression) } throws: { error in
            guard let error = error as? ScriptError else { return false }
            return error.status == .runtime && error.text.hasPrefix("test.lua:1: ")
                && error.text.contains(message)
        }
    }

    @Test(arguments: [
        ("fail(\"EPERM\")", "bad errno \"EPERM\"; the block layer knows EIO ENODATA"),
        ("fail(5)", "bad errno 5"),
        ("fail()", "bad errno nil"),
        ("fail(\"EIO\", {})", "argument 2 is of no use: a table"),
        ("delay()", "bad time nil"),
        ("delay(-1)", "bad time -1"),
        ("delay(\"5\")", "bad time \"5\""),
        ("delay(0/0)", "bad time"),
        ("delay({})", "bad time a table"),
        ("hang(-1)", "bad time -1"),
        ("hang(1, 2)", "a verdict (fail, delay, ...) is expected, got 2"),
        ("to(-1)", "bad offset -1"),
        ("to(1.5)", "bad offset 1.5"),
        ("to(\"4Q\")", "bad offset \"4Q\""),
        ("to(0, \"other\")", "is no backing"),
    ])
    func `bad arguments are refused with their value`(expression: String, message: String) {
        #expect { try verdict(expression) } throws: { error in
            (error as? ScriptError)?.text.contains(message) == true
        }
    }

    @Test func `a verdict made at load time can be returned again and again`() throws {
        let harness = try ScriptHarness(
            """
            local weak = fail("EIO") + delay("1ms")
            function read(io, offset) if offset == 0 then return weak end end
            """
        )
        for _ in 0..<3 {
            #expect(try harness.decide(.read) == Verdict(outcome: .fail(5), delay: 1_000_000))
            #expect(try harness.decide(.read, offset: 4096) == .pass)
        }
    }

    @Test func `computed delays stay right beyond what is kept`() throws {
        let harness = try ScriptHarness("function read(io, offset) return delay(offset) end")
        for round in 0..<2 {
            for offset in 1...300 as ClosedRange<UInt64> {
                #expect(try harness.decide(.read, offset: offset).delay == offset, "round \(round)")
            }
        }
    }

    @Test func `a returned verdict costs no memory`() throws {
        let plain = try ScriptHarness("function read() return fail(\"EIO\") end")
        _ = try plain.decide(.read)
        let before = plain.script.memoryUsedBytes
        for _ in 0..<1000 { _ = try plain.decide(.read) }
        #expect(plain.script.memoryUsedBytes == before)
    }

    /// Which outcomes an op can have besides pass and fail.
    private static let possible: [(IOOp, Set<String>)] = [
        (.read, ["zero()", "to(0)"]),
        (.write, ["drop()", "zero()", "to(0)"]),
        (.flush, ["drop()"]),
        (.discard, ["drop()", "to(0)"]),
        (.writeZeroes, ["drop()", "to(0)"]),
    ]

    @Test(arguments: possible)
    func `an op does what it can do and refuses the rest`(op: IOOp, can: Set<String>) throws {
        for expression in ["drop()", "zero()", "to(0)", "fail(\"EIO\")", "delay(1)", "hang()"] {
            let harness = try ScriptHarness("function \(op.name)()\nreturn \(expression) end")
            let isAlways =
                expression.first == "f" || expression.first == "h" || expression == "delay(1)"
            switch harness.outcome(op) {
            case .success:
                #expect(isAlways || can.contains(expression), "\(op.name): \(expression)")
            case .failure(let error):
                #expect(!isAlways && !can.contains(expression), "\(op.name): \(expression)")
                #expect(
                    error.text.hasPrefix("test.lua:1: \(op.name) returned \(expression), which a")
                )
            }
        }
    }

    @Test(arguments: ["5", "true", "\"EIO\"", "{}", "function() end", "bad", "io"])
    func `anything else that is returned is an error of the handler`(value: String) throws {
        let harness = try ScriptHarness(
            "local bad = ranges()\nfunction read(io) if io.offset == 0 then return \(value) end end"
        )
        guard case .failure(let error) = harness.outcome() else {
            Issue.record("\(value) is no verdict")
            return
        }
        #expect(error.text.hasPrefix("test.lua:2: read returned a "))
        #expect(try harness.decide(.read, offset: 512) == .pass)
    }

    @Test(arguments: [
        "nil, fail(\"EIO\")", "fail(\"EIO\"), delay(\"1s\")", "fail(\"EIO\"), nil, 5",
    ])
    func `a second value beside the verdict is refused, for nobody would look at it`(
        values: String
    ) throws {
        let harness = try ScriptHarness("function read() return \(values) end")
        guard case .failure(let error) = harness.outcome() else {
            Issue.record("\(values) is taken for a verdict")
            return
        }
        #expect(error.text.contains(" values; one verdict is expected"), "\(error.text)")
    }

    @Test func `nothing beside a verdict is nothing`() throws {
        #expect(try verdict("fail(\"EIO\"), nil, nil") == .fail("EIO"))
    }

    @Test func `a redirect stays inside of the device`() throws {
        let harness = try ScriptHarness("function read() return to(8192) end")
        harness.deviceBytes = 12288
        #expect(try harness.decide(.read, length: 4096) == Verdict(outcome: .redirect(8192)))
        guard case .failure(let error) = harness.outcome(length: 4608) else {
            Issue.record("past the end")
            return
        }
        #expect(
            error.text.contains(
                "to(8192): offset + length is past the end of the device (12288 bytes)"
            )
        )
        #expect(throws: ScriptError.self) { try harness.decide(.read, length: 1 << 40) }
    }

    @Test(arguments: [
        ("fail(\"EIO\")", "fail(\"EIO\")"), ("delay(\"1500us\")", "delay(1500us)"),
        ("delay(0)", "delay(0s)"), ("hang()", "hang()"), ("hang(\"2s\")", "hang(2s)"),
        ("drop()", "drop()"), ("zero()", "zero()"), ("to(\"1K\")", "to(1024)"),
        ("hang() + delay(1) + fail(\"EIO\")", "fail(\"EIO\") + delay(1ns) + hang()"),
    ])
    func `a verdict prints as a script would write it`(expression: String, text: String) throws {
        #expect(try ScriptHarness.value(of: "tostring(\(expression))") == text)
    }
}
