import CLua
import SystemPackage
import Testing

@testable import UblkScript

/// What failed although nothing decided so: counted, in the ledger, and told by `list`.
@Suite struct ServerStatusTests {
    @Test func `a status comes back as it was sent`() {
        var status = ServerStatus(failures: [.scriptErrors: 3, .drained: 1])
        #expect(ServerStatus(lines: status.lines) == status)
        status.faultsAreOn = false
        status.remark = "another program is stopping the device"
        status.failures[.backingErrors] = .max
        status.queues = [.init(queue: 0), .init(queue: 1, inServer: 5, delayed: 1, held: .max)]
        #expect(ServerStatus(lines: status.lines) == status)
        #expect(ServerStatus(lines: "") == ServerStatus())
        #expect(
            ServerStatus(lines: "colour red\nscript_errors many\nqueue 0 1\nqueue 1 2 x 3\n\n")
                == ServerStatus()
        )
    }

    @Test func `an entry of list tells of failures and of faults that are off`() {
        let info = DeviceInfo(
            id: DeviceID(7),
            queues: 1,
            depth: 1,
            maxIOBytes: 4096,
            features: []
        )
        var listing = DeviceListing(info, id: DeviceID(7), record: nil)
        let before = listing.text
        listing.take(ServerStatus())
        #expect(listing.text == before, "nothing happened, nothing is said")
        var status = ServerStatus(failures: [.scriptErrors: 3, .backingErrors: 2])
        listing.take(status)
        #expect(listing.text.contains("\n        script errors 3, backing errors 2\n"))
        #expect(JSON.text(listing).contains("\"scriptErrors\":3"))
        #expect(JSON.text(listing).contains("\"faults\":\"on\""))
        status = ServerStatus()
        status.faultsAreOn = false
        status.remark = "it is being stopped"
        listing.take(status)
        #expect(listing.text.contains("\n        faults are off: it is being stopped\n"))
        #expect(!listing.text.contains("errors"))
    }

    @Test func `the summary of a device names what failed, and is none when nothing did`() {
        #expect(DeviceServer.summary(ServerStatus(), of: DeviceID(0)) == nil)
        let status = ServerStatus(failures: [.drained: 2, .scriptErrors: 1])
        #expect(
            DeviceServer.summary(status, of: DeviceID(3))
                == "device 3: no rule and no handler decided these: script errors 1, held IOs lost 2"
        )
    }

    // MARK: What is counted

    private func kinds(_ result: Simulation.Result) -> [LedgerRecord.Kind] {
        result.ledger.read(from: 0, limit: .max).records.map(\.kind)
    }

    @Test func `an error of the backing is a record of its own`() throws {
        let result = try simulate(
            "rule { op = \"read\", verdict = to(\"64M\") }",
            settings: ["size": "16M"]
        ) { $0.workload = Workload([.read(0), .write(0)]) }
        #expect(result.outcomes == ["EIO", ""])
        let record = try #require(
            result.ledger.read(from: 0, limit: .max).records.first { $0.kind == .backingError }
        )
        #expect(record.op == IOOp.read.rawValue && record.rule == LedgerRecord.nobody)
        #expect(record.decision.error == Errno.ioError.rawValue)
        let text = LedgerText(script: "test.lua", rules: [], seed: 1)
        #expect(
            text.line(record, queue: QueueID(0)).hasSuffix(
                "server: backing error, the IO got fail(\"EIO\")"
            )
        )
    }

    @Test
    func `a held IO that its device's end fails is counted, one that ends as scripted is not`()
        throws
    {
        let script = """
            rule { op = "read", hang = true }
            rule { op = "write", verdict = hang("1h", fail("ENOSPC")) }
            """
        let result = try simulate(script) {
            $0.workload = Workload([.read(0), .write(0)], depth: 2)
            $0.interventions = [QueueTests.at(10, .drain)]
        }
        #expect(result.outcomes == ["EIO", "ENOSPC"])
        #expect(kinds(result).filter { $0 == .drained }.count == 2)
        #expect(result.counters[.drained] == 1)
    }
}
