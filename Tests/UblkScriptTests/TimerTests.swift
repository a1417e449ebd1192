import Testing

@testable import UblkScript

/// `after()` and `every()`.
@Suite struct TimerTests {
    /// Reads, one after the other, each so long that there are 1,000 a second of virtual time.
    private func run(_ script: String, reads: Int = 1000) throws -> Simulation.Result {
        try simulate("rule { op = \"read\", delay = \"985us\", name = \"pace\" }\n" + script) {
            $0.workload = Workload(Array(repeating: .read(0), count: reads))
        }
    }

    private func failed(_ result: Simulation.Result) -> [Int] {
        result.finished.filter { $0.outcome != .done }
            .map { Int($0.sentAt.nanoseconds / 1_000_000) }
    }

    @Test func `after comes once, at its time, and not before`() throws {
        let script = """
            local bad = false
            after("300ms", function() bad = true end)
            after("400ms", function() bad = false end)
            function read() if bad then return fail("EIO") end end
            """
        // The rule's delay is added after the decision, at the arrival.
        let times = failed(try run(script))
        #expect(!times.isEmpty && times.allSatisfy { (299...401).contains($0) })
        #expect(times.count > 90 && times.count < 110)
    }

    @Test func `every comes at each of its times, until it returns false`() throws {
        let script = """
            local count = 0
            every("100ms", function() count = count + 1; log(now(), count); return count < 5 end)
            local left = false
            every("1ms", function() left = count end)
            function read() if left == 5 then return fail("EIO") end end
            """
        let times = failed(try run(script))
        #expect((499...502).contains(try #require(times.first)), "\(times.first ?? -1)")
    }

    @Test func `times are exact on the device's clock`() throws {
        let script = """
            local wanted, wrong = 0, 0
            every("7ms", function() wanted = wanted + 7*ms; if now() ~= wanted then wrong = wrong + 1 end end)
            function read() if wrong > 0 then return fail("EIO") end end
            """
        #expect(failed(try run(script)).isEmpty)
    }

    @Test func `a timer sets what rules look at`() throws {
        let script = """
            after("500ms", function() state("sick"); mark("go") end)
            rule { op = "read", state = "sick", after = { mark = "go" }, error = "EIO", times = 3 }
            """
        #expect(failed(try run(script)).count == 3)
    }

    @Test func `a timer that a handler makes counts from then on`() throws {
        let script = """
            local armed, bad = false, false
            function read()
              if not armed then armed = true; after("100ms", function() bad = true end) end
              if bad then return fail("EIO") end
            end
            """
        #expect((99...102).contains(try #require(failed(try run(script)).first)))
    }

    @Test func `a timer that raises is a script error and is over`() throws {
        let result = try run("every(\"100ms\", function() error(\"broken\") end)")
        #expect(result.report.scriptErrors.count == 1)
        #expect(result.report.scriptErrors.texts[0].contains("test.lua:2: broken"))
    }

    @Test func `a timer that runs away is interrupted, in a script with nothing else`() throws {
        let result = try simulate(
            "rule { op = \"read\", delay = \"1ms\" }\nafter(\"5ms\", function() while true do end end)",
            settings: ["budget": "10ms"]
        ) { $0.workload.requests = 2000 }
        #expect(result.report.scriptErrors.count == 1)
        #expect(result.report.scriptErrors.texts[0].contains("over its time budget"))
    }

    @Test func `a timer that asks for itself again at once lets IOs through`() throws {
        let result = try run("local function f() after(0, f) end after(0, f)", reads: 3)
        #expect(result.finished.count == 3)
    }

    @Test func `requests that are held for ever are noticed beside a timer`() throws {
        let result = try simulate(
            "every(\"1h\", function() end)\nfunction read() return hang() end"
        ) {
            $0.workload = Workload([.read(0)])
        }
        #expect(result.report.heldForEver == 1)
    }

    @Test(arguments: [
        ("after()", "bad time nil"), ("after(5)", "a function is expected"),
        ("every(\"10us\", print)", "at least 100us"), ("every(0, print)", "at least 100us"),
        ("for i = 1, 1001 do after(1, print) end", "1000 timers"),
    ])
    func `what is no timer is refused`(text: String, part: String) {
        let error = loadError("\n" + text)
        #expect(error?.text.hasPrefix("test.lua:2: ") == true, "\(error?.text ?? "accepted")")
        #expect(error?.text.contains(part) == true, "\(error?.text ?? "accepted")")
    }

    @Test func `only queue 0 has the timers of the load phase`() throws {
        for queue in [0, 1] as [UInt16] {
            var options = Script.Options()
            options.queue = QueueID(queue)
            let harness = try ScriptHarness("after(\"1s\", print)", options: options)
            #expect((harness.script.nextTimer != nil) == (queue == 0))
        }
    }
}
