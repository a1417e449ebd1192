import Testing

@testable import UblkScript

/// `dict()`: tables that the queues of a device share.
@Suite struct DictTests {
    private func value(_ body: String, shared: SharedObjects = SharedObjects(queues: 1)) throws
        -> String
    {
        let harness = try ScriptHarness(
            "local d = dict(\"d\")\nfunction ctl() \(body) end",
            shared: shared
        )
        return try harness.ctl()
    }

    @Test func `what is set is there, of its type, until it is removed`() throws {
        #expect(
            try value(
                """
                d:set("a", 1) d:set("b", 1.5) d:set("c", "text\\0more") d:set("d", true) d:set("e", false) d:set(1, "one")
                d:set("1", "other") d:set("", "empty") d:set("a", 2)
                return math.type(d:get("a")), d:get("a"), d:get("b"), #d:get("c"), d:get("d"), d:get("e"), d:get(1), d:get("1"),
                  d:get(""), d:get("none"), d:count(), #d
                """
            ) == "integer\t2\t1.5\t9\ttrue\tfalse\tone\tother\tempty\tnil\t8\t8"
        )
        #expect(
            try value(
                "d:set(1, 1) d:set(2, 2) d:set(1, nil) d:set(3) return d:get(1), d:get(2), #d"
            )
                == "nil\t2\t1"
        )
        #expect(try value("d:set(1, 1) d:clear() d:set(2, 2) return d:get(1), #d") == "nil\t1")
    }

    @Test func `add counts, and begins at nothing`() throws {
        #expect(
            try value("return d:add(\"n\"), d:add(\"n\", 5), d:add(\"n\", -10), d:get(\"n\")")
                == "1\t6\t-4\t-4"
        )
    }

    @Test func `many keys are all there`() throws {
        let count = try value(
            """
            for i = 1, 20000 do d:set(i * 7919, i) end
            for i = 1, 20000, 2 do d:set(i * 7919, nil) end
            local right = 0
            for i = 1, 20000 do if d:get(i * 7919) == (i % 2 == 0 and i or nil) then right = right + 1 end end
            return right, #d
            """
        )
        #expect(count == "20000\t10000")
    }

    @Test func `scripts that share it see each other's values`() throws {
        let shared = SharedObjects(queues: 2)
        #expect(try value("d:set(\"a\", 1) return #d", shared: shared) == "1")
        #expect(try value("return d:get(\"a\"), d:add(\"a\")", shared: shared) == "1\t2")
    }

    @Test func `memory is bounded, given back, and the state lives on`() throws {
        let full = """
            local text = ("x"):rep(4096)
            local ok, why
            for i = 1, 100000 do ok, why = pcall(d.set, d, i, text); if not ok then break end end
            local count = #d
            d:clear()
            local again = 0
            for i = 1, 1000 do d:set(i, text) again = again + 1 end
            return count > 10000 and count < 17000, why:match("64 MiB"), again
            """
        #expect(try value(full) == "true\t64 MiB\t1000")
    }

    @Test(arguments: [
        ("d:get(1.5)", "bad key 1.5"), ("d:get({})", "bad key a table"),
        ("d:set(1, {})", "bad value a table"),
        ("d:set((\"x\"):rep(4097), 1)", "a key of 4097 bytes; at most 4096"),
        ("d:set(1, (\"x\"):rep(4097))", "a value of 4097 bytes"),
        ("d.get(1, 2)", "a dict is expected"),
        ("d:set(1, \"x\") d:add(1)", "holds no whole number"),
        ("dict(\"x\")", "not available in the ctl phase"),
    ])
    func `what does not fit is refused`(body: String, part: String) {
        #expect { try value(body) } throws: {
            "\($0)".contains("test.lua:2: ") && "\($0)".contains(part)
        }
    }

    @Test func `a name is text`() {
        for text in ["dict()", "dict(5)", "dict(\"\")", "dict((\"x\"):rep(65))", "dict(\"a\\0b\")"]
        {
            #expect(loadError(text)?.text.contains("dict: bad name") == true, "\(text)")
        }
    }

    @Test func `two queues adding at once lose nothing`() throws {
        let shared = SharedObjects(queues: 2)
        var threads = ThreadList()
        for index in 0..<2 {
            threads.start("test-queue") {
                var options = Script.Options()
                options.queue = QueueID(UInt16(index))
                let harness = try? ScriptHarness(
                    "local d = dict(\"d\")\nfunction read() for i = 1, 20000 do d:add(i % 10) end end",
                    shared: shared,
                    options: options
                )
                _ = harness?.outcome()
            }
        }
        threads.joinAll()
        #expect(
            try value(
                "local sum = 0 for i = 0, 9 do sum = sum + d:get(i) end return sum",
                shared: shared
            ) == "40000"
        )
    }
}
