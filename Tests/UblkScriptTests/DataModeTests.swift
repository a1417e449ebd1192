import SystemPackage
import Testing

@testable import UblkScript

/// How the data of an IO gets to the server and back: which mode a device has, and what is copied in it.
///
/// That nothing else differs is shown by every other simulation of the tests: `simulate` runs it in two modes.
@Suite struct DataModeTests {
    // MARK: What is copied

    struct Case: Sendable, CustomTestStringConvertible {
        let name: String
        let script: String
        let requests: [SimulatedRequest]
        let settings: [String: String]
        let pulled: Int
        let pushed: Int
        var testDescription: String { name }

        init(
            _ name: String,
            _ script: String,
            _ requests: [SimulatedRequest],
            settings: [String: String] = [:],
            pulled: Int = 0,
            pushed: Int = 0
        ) {
            self.name = name
            self.script = script
            self.settings = settings
            self.requests = requests
            self.pulled = pulled
            self.pushed = pushed
        }
    }

    private static let both: [SimulatedRequest] = [.write(0), .read(0), .discard(8192)]

    static let cases = [
        Case("memory", "", both, pulled: 1, pushed: 1),
        Case("a file", "", both, settings: ["file": "/never"], pulled: 1, pushed: 1),
        Case("no store", "", both, settings: ["backing": "null"], pushed: 1),
        Case("a failing write", "rule { op = \"write\", error = \"EIO\" }", both, pushed: 1),
        Case("a failing read", "rule { op = \"read\", error = \"EIO\" }", both, pulled: 1),
        Case(
            "a write that fails after a delay and a hang",
            "rule { op = \"write\", delay = \"1ms\", hang = \"1ms\", error = \"EIO\" }",
            both,
            pushed: 1
        ),
        Case("a write that is dropped", "rule { op = \"write\", drop = true }", both, pushed: 1),
        Case(
            "a write of which nothing is stored",
            "rule { op = \"write\", verdict = store(\"none\") }",
            both,
            pushed: 1
        ),
        Case("a write of zeroes", "rule { op = \"write\", zero = true }", both, pushed: 1),
        Case("a read of zeroes", "rule { op = \"read\", zero = true }", both, pulled: 1, pushed: 1),
        Case(
            "a rule that compares, and fails the write",
            "rule { op = \"write\", content = { at = 0, hex = \"00\" }, error = \"EIO\" }",
            both,
            pulled: 1,
            pushed: 1
        ),
        Case(
            "a handler that does not look",
            "function write(io) return drop() end",
            both,
            settings: ["backing": "null"],
            pushed: 1
        ),
        Case(
            "a handler that looks, several times",
            "function write(io) if io:byte(0) + io:u16(1) + #io:data() > 0 then return drop() end end",
            both,
            settings: ["backing": "null"],
            pulled: 1,
            pushed: 1
        ),
        Case(
            "a handler that looks after it has read what is stored, and lets it be stored",
            "local own = backing() function write(io, offset) if own:read(offset, 512) ~= io:data(0, 512) then log(1) end end",
            both,
            pulled: 1,
            pushed: 1
        ),
        Case(
            "a write that changes on its way",
            "rule { op = \"write\", verdict = corrupt(\"flip\") }",
            both,
            pulled: 1,
            pushed: 1
        ),
        Case(
            "a write to three stores, once",
            """
            local a, b = backing { size = "16M" }, backing { file = "/b", size = "16M" }
            rule { op = "write", verdict = to(0) + to(0, a) + to(0, b) }
            """,
            both,
            pulled: 1,
            pushed: 1
        ),
        Case(
            "a handler, a change and two stores, once",
            """
            local b = backing { file = "/b", size = "16M" }
            function write(io) io:flip(9, 1) return to(0) + to(0, b) end
            """,
            both,
            pulled: 1,
            pushed: 1
        ),
        Case(
            "a write that changes on its way, and fails",
            "rule { op = \"write\", verdict = corrupt(\"flip\") } rule { op = \"write\", error = \"ENOSPC\" }",
            both,
            pushed: 1
        ),
        Case(
            "a write that changes on its way, and is dropped",
            "rule { op = \"write\", verdict = corrupt(\"flip\") } rule { op = \"write\", drop = true }",
            both,
            pushed: 1
        ),
        Case(
            "a write past the end of a backing",
            """
            local b = backing { file = "/b", size = "64K" }
            rule { op = "write", verdict = to(65536, b) }
            """,
            both,
            pushed: 1
        ),
        Case(
            "a write that changes on its way to no store",
            "function write(io) io:flip(9, 1) end",
            both,
            settings: ["backing": "null"],
            pushed: 1
        ),
        Case(
            "a write that fails and stores a part",
            "rule { op = \"write\", verdict = fail(\"EIO\") + store(\"prefix\") }",
            [.write(0, 8192)],
            pulled: 1
        ),
    ]

    @Test(arguments: cases)
    func `what is needed is copied, once, and nothing else`(item: Case) throws {
        let settings = item.settings.merging(["data": "user_copy"]) { $1 }
        let result = try simulate(item.script, settings: settings) {
            $0.workload = Workload(item.requests, depth: 1)
        }
        #expect(result.copies.pulled == item.pulled)
        #expect(result.copies.pushed == item.pushed)
        #expect(result.report.scriptErrors.count == 0)
    }

    /// Of five requests the simulated driver lends the pages of four.
    @Test(
        arguments: [
            ("", ["file": "/never"], 2, 2),
            ("", [:], 10, 10),
            ("rule { op = \"read\", verdict = corrupt(\"flip\") }", ["file": "/never"], 2, 10),
            ("rule { op = \"write\", content = \"zero\", drop = true }", ["file": "/never"], 10, 2),
            ("rule { op = \"write\", verdict = store(\"prefix\") }", ["file": "/never"], 2, 2),
            (
                """
                local a, own = backing { file = "/a", size = "16M" }, backing()
                function read() return to(0, a, 0, 1024) + to(1024, own, 1024) end
                """, ["file": "/never"], 2, 2
            ),
            (
                """
                local a = backing { file = "/a", size = "16M" }
                function read() return to(0, a, 0, 1024) end
                """, ["file": "/never"], 2, 10
            ),
            (
                """
                local a, b = backing { file = "/a", size = "16M" }, backing { file = "/b", size = "16M" }
                function write(io, offset) return to(offset, a) + to(offset, b) end
                """, ["file": "/never"], 2, 2
            ),
            ("function write(io) io:byte(0) end", ["file": "/never"], 10, 2),
        ] as [(String, [String: String], Int, Int)]
    )
    func `with zero copy files work on the pages of requests, unless somebody looks at the data`(
        script: String,
        settings: [String: String],
        pulled: Int,
        pushed: Int
    ) throws {
        for mode in ["zero_copy", "auto_buf"] {
            let settings = settings.merging(["data": mode]) { $1 }
            let result = try simulate(script, settings: settings) {
                let writes = (0..<10).map { SimulatedRequest.write(UInt64($0) * 4096) }
                let reads = (0..<10).map { SimulatedRequest.read(UInt64($0) * 4096) }
                $0.workload = Workload(writes + reads, depth: 1)
                $0.checksData = script.isEmpty
            }
            #expect(result.copies.pulled == pulled, "\(mode)")
            #expect(result.copies.pushed == pushed, "\(mode)")
            #expect(result.report.errors.isEmpty && result.report.scriptErrors.count == 0)
            #expect(result.report.data?.differing ?? 0 == 0, "\(mode)")
        }
    }

    @Test func `the driver that copies is never asked to`() throws {
        let result = try simulate("", settings: ["data": "copy"]) {
            $0.workload = Workload([.write(0), .read(0)])
        }
        #expect(result.copies.pulled == 0 && result.copies.pushed == 0)
    }

    // MARK: Copies that fail

    @Test(arguments: [
        "", "function write() end function read() end", "function write(io) io:hash() end",
        "rule { op = \"write\", content = \"zero\", delay = \"1ms\" }",
        "rule { op = { \"write\", \"read\" }, verdict = corrupt(\"flip\") }",
        "local b = backing { size = \"16M\" } rule { op = \"write\", verdict = to(0) + to(0, b) }",
        "rule { op = \"write\", verdict = store(\"prefix\") }",
        "rule { op = \"read\", delay = \"1ms\" }",
    ])
    func `a copy that fails is an error of that IO, told as what it is, and the next one succeeds`(
        script: String
    ) throws {
        for file in [nil, "/never"] as [String?] {
            var settings = ["data": "user_copy"]
            settings["file"] = file
            let result = try simulate(script, settings: settings) {
                $0.workload = Workload(
                    [.write(0), .write(0), .read(0), .read(0)],
                    depth: 1
                )
                // What the first write brings, and what the first read is to get.
                $0.failingCopies = [1: .badAddress, 3: .invalidArgument]
            }
            #expect(result.outcomes == ["EIO", "", "EIO", ""])
            #expect(result.action("copy_errors") == 2 && result.action("backing_errors") == 0)
            let told = result.ledgerLines.filter { $0.contains("copy error") }
            #expect(told.count == 2)
            let end = "server: copy error, the IO got fail(\"EIO\")"
            #expect(told.allSatisfy { $0.hasSuffix(end) })
        }
    }

    @Test(arguments: [
        "pcall(look) return drop()", "pcall(look) error(\"mine\")",
        "if not pcall(look) then own:read(0, 512) end", "io:flip(0, 0) pcall(look)",
    ])
    func `data that cannot be had is an error of its IO, whatever the handler makes of that`(
        handler: String
    ) throws {
        let script = """
            local own = backing()
            function write(io)
              local function look() return io:byte(0) end
              \(handler)
            end
            """
        let result = try simulate(script, settings: ["data": "user_copy"]) {
            $0.workload = Workload([.write(0)], depth: 1)
            $0.failingCopies = [1: .badAddress]
        }
        #expect(result.outcomes == ["EIO"])
        #expect(result.action("copy_errors") == 1 && result.report.scriptErrors.count == 0)
        #expect(result.ledgerLines.filter { $0.contains("copy error") }.count == 1)
    }

    @Test func `a read that is committed without its data stops the program`() async {
        await #expect(processExitsWith: .failure) {
            var transport = SimulatorTransportTests.transport([.read(0)], mode: .userCopy)
            let tag = SimulatorTransportTests.fetch(&transport)
            transport.commit(Tag(tag), Commit(result: 4096))
        }
    }

    @Test func `a write's data that was not pulled is not in the buffer`() {
        var transport = SimulatorTransportTests.transport([.write(0)], mode: .userCopy)
        let tag = Tag(SimulatorTransportTests.fetch(&transport))
        let buffer = unsafe transport.data(tag).bytes
        #expect(unsafe buffer.load(as: UInt8.self) == BlockStamp.poison)
        #expect(transport.pullData(tag, bytes: 4096) == 0)
        #expect(unsafe buffer.load(as: UInt8.self) != BlockStamp.poison)
    }

    // MARK: The mode of a device

    private func choice(_ asked: DataMode?, _ offered: Features) throws -> DataChoice {
        try DataChoice(asked) { () throws(DeviceError) in offered }
    }

    @Test func `a mode is refused where the driver lacks it, with the flag and its first kernel`()
        throws
    {
        #expect(try choice(.userCopy, [.userCopy, .zoned]).mode == .userCopy)
        #expect {
            _ = try choice(.userCopy, [.ioctlEncode])
        } throws: { error in
            "\(error)".contains(
                "data = \"user_copy\": this kernel's ublk driver lacks USER_COPY (from kernel 6.5)"
            )
        }
        #expect {
            _ = try choice(.autoBuf, [.userCopy])
        } throws: { error in
            "\(error)".contains(
                "lacks SUPPORT_ZERO_COPY (from kernel 6.15), AUTO_BUF_REG (from kernel 6.16). "
            )
        }
        #expect {
            _ = try choice(.batch, [.userCopy])
        } throws: { error in
            "\(error)".contains(
                "data = \"batch\": this kernel's ublk driver lacks BATCH_IO (from kernel 7.0)"
            )
        }
        #expect(try choice(.zeroCopy, [.userCopy, .supportZeroCopy]).mode == .zeroCopy)
        #expect(try choice(nil, []).mode == .copy)
        #expect(try choice(.copy, []).mode == .copy)
        #expect(try choice(nil, []).reason.hasPrefix("\"auto\" takes it: "))
        #expect(try choice(.copy, []).reason == "data = \"copy\" asks for it")
    }

    @Test func `a device's mode is known by its features`() {
        #expect(DataMode([.ioctlEncode]) == .copy)
        #expect(DataMode([.ioctlEncode, .userCopy]) == .userCopy)
        #expect(DataMode([.supportZeroCopy]) == nil)
        #expect(DataMode([.supportZeroCopy, .userCopy, .zoned]) == .zeroCopy)
        #expect(DataMode([.autoBufferRegistration, .userCopy]) == nil)
        #expect(DataMode([.autoBufferRegistration]) == nil)
        #expect(DataMode([.batchIO, .userCopy]) == nil)
        for mode in DataMode.allCases { #expect(DataMode(mode.features) == mode) }
    }

    @Test(
        arguments: [
            (["seed=7"], DataMode.copy), (["seed=7", "data=copy"], .copy),
            (["data=need_get_data"], .needGetData), (["data=user_copy"], .userCopy),
            (["data=zero_copy"], .zeroCopy), (["data=auto_buf"], .autoBuf),
            (["data=shared_memory"], .sharedMemory), (["data=batch", "depth=2"], .batch),
        ] as [([String], DataMode)]
    )
    func `a server asks the driver for its mode, and the record and list tell of it`(
        settings: [String],
        mode: DataMode
    ) throws {
        let world = ServerWorld()
        let server = try world.server(settings: settings)
        let record = try server.bringUp()
        #expect(server.info.features.isSuperset(of: mode.features))
        #expect(server.contexts.allSatisfy { $0.dataMode == mode })
        #expect(record.data == mode.rawValue)
        let reason = try #require(record.dataReason)
        var listing = DeviceListing(server.info, id: server.id, record: record)
        #expect(listing.data == mode.rawValue && listing.dataReason == reason)
        #expect(!listing.text.contains("data "))
        listing.details = DeviceDetails(server.info, id: server.id, record: record)
        let text = listing.text.split { $0 == "\n" || $0 == " " }
        #expect(text.joined(separator: " ").contains("data \(mode.rawValue): \(reason)"))
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `a mode that the driver lacks is refused before anything is made`() {
        let world = ServerWorld()
        world.driver.offer([.ioctlEncode])
        #expect(throws: DeviceError.self) { try world.server(settings: ["data=user_copy"]) }
        #expect(world.driver.given == [.getFeatures])
        #expect(world.leftovers().isEmpty)
    }
}
