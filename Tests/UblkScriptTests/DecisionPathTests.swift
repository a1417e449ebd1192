import Testing

@testable import UblkScript

/// From a handler's return value to what the application sees.
@Suite struct DecisionPathTests {
    private func outcomes(
        _ script: String,
        settings: [String: String] = [:],
        _ requests: [SimulatedRequest]
    ) throws -> [String] {
        try simulate(script, settings: settings) { $0.workload = Workload(requests) }.outcomes
    }

    @Test func `a handler gets only its own op`() throws {
        let requests: [SimulatedRequest] = [
            .read(0), .write(0), .flush, .discard(0), .writeZeroes(0),
        ]
        for (index, op) in ["read", "write", "flush", "discard", "write_zeroes"].enumerated() {
            var expected = Array(repeating: "", count: 5)
            expected[index] = "ENOSPC"
            let found = try outcomes(
                "function \(op)() return fail(\"ENOSPC\") end",
                settings: ["cache": "volatile"],
                requests
            )
            #expect(found == expected, "\(op)")
        }
    }

    @Test func `a handler sees the request as it is`() throws {
        let script = """
            function write(io, offset, length)
              assert(io.op == "write" and io.offset == offset and io.length == length)
              assert(offset == 8192 and length == 4096 and io.tag == 0 and io.queue == 0)
              assert(io.fua == true and io.meta == true and io.nounmap == false)
              assert(io.seq == 2)
              return fail("ENODATA")
            end
            """
        var request = SimulatedRequest.write(8192)
        request.flags = [.fua, SimulatedRequest.metaFlag]
        #expect(try outcomes(script, [.read(0), request]) == ["", "ENODATA"])
    }

    @Test func `now is the time of the queue`() throws {
        let script = """
            local first
            rule { op = "flush", delay = "7ms" }
            function read() first = first or now()
              if now() - first > 7*ms and now() - first < 8*ms then return fail("ENODATA") end end
            """
        #expect(
            try outcomes(script, settings: ["cache": "volatile"], [.read(0), .flush, .read(0)])
                == ["", "", "ENODATA"]
        )
    }

    @Test func `a rule that settles the outcome keeps the handler out`() throws {
        let result = try simulate(
            """
            rule { op = "read", nth = 2, error = "ENODATA" }
            rule { op = "read", nth = 1, delay = "9ms" }
            function read() return fail("ENOSPC") end
            """
        ) { $0.workload = Workload([.read(0), .read(0)]) }
        #expect(result.outcomes == ["ENOSPC", "ENODATA"])
        #expect(result.finished.map(\.nanoseconds) == [9_000_000, 0])
    }

    @Test func `drop answers and stores nothing`() throws {
        let result = try simulate("function write(io, offset) return drop() end") {
            $0.workload = Workload([.write(0), .read(0)])
        }
        #expect(result.outcomes == ["", ""])
        #expect(result.report.data?.zeroes == 8)
    }

    @Test func `hang holds for its time and ends as told`() throws {
        let result = try simulate(
            "function read() return delay(\"1s\") + hang(\"2s\", fail(\"EILSEQ\")) end"
        ) { $0.workload = Workload([.read(0)]) }
        #expect(result.outcomes == ["EILSEQ"])
        #expect(result.finished.map(\.nanoseconds) == [3_000_000_000])
    }

    @Test func `verdicts that an op cannot do are script errors`() throws {
        let cases = [
            ("read", "drop()"), ("flush", "zero()"), ("discard", "zero()"), ("flush", "to(0)"),
            ("read", "42"), ("read", "to(16*MiB)"), ("read", "to(16*MiB - 512)"),
        ]
        for (op, verdict) in cases {
            let result = try simulate(
                "function \(op)() return \(verdict) end",
                settings: ["cache": "volatile"]
            ) {
                $0.workload = Workload(
                    op == "read" ? [.read(0)] : op == "flush" ? [.flush] : [.discard(0)]
                )
            }
            #expect(result.outcomes == ["EIO"], "\(op) \(verdict)")
            #expect(result.report.scriptErrors.count == 1, "\(op) \(verdict)")
        }
    }

    @Test func `a redirect reaches the last byte of the device`() throws {
        let result = try simulate("function read() return to(16*MiB - 4096) end") {
            $0.workload = Workload([.write((16 << 20) - 4096), .read(0)])
        }
        #expect(result.outcomes == ["", ""])
    }

    @Test func `an io that is over cannot be used`() throws {
        let result = try simulate(
            """
            local kept
            function read(io) kept = kept or io return nil end
            function write(io) return kept.offset == 0 and fail("ENOSPC") or nil end
            """
        ) { $0.workload = Workload([.read(0), .write(0)], depth: 2) }
        #expect(result.outcomes.contains("EIO"))
        #expect(result.report.scriptErrors.texts.first?.contains("over") == true)
    }

    @Test func `the simulator's table of errnos has all that scripts may name`() {
        for name in Quantity.blockErrnoNames {
            let number = Quantity.blockErrno(named: name)
            #expect(number.map(BlockLayer.errnos.contains) == true, "\(name)")
        }
    }

    @Test func `random verdicts repeat with the seed`() throws {
        let script = "function read() if random() < 0.3 then return fail(\"EIO\") end end"
        let requests = Array(repeating: SimulatedRequest.read(0), count: 200)
        let first = try simulate(script, seed: 5) { $0.workload = Workload(requests) }
        let again = try simulate(script, seed: 5) { $0.workload = Workload(requests) }
        let other = try simulate(script, seed: 6) { $0.workload = Workload(requests) }
        #expect(first.outcomes == again.outcomes)
        #expect(first.outcomes != other.outcomes)
        #expect((30...90).contains(first.outcomes.count { $0 == "EIO" }))
    }
}
