import CUring
import Glibc
import Testing

@testable import UblkScript

/// What a device's record has, and which versions of it are read.
@Suite struct DeviceRecordTests {
    private let record = DeviceRecord(
        id: 3,
        serverPID: 4711,
        cookie: 77,
        script: "/tmp/faulty.lua",
        backing: "memory",
        sizeBytes: 1 << 20,
        logicalBlockBytes: 512,
        seed: 7,
        settings: []
    )

    @Test func `the record of a device that is up has all that serving it again takes`() throws {
        let world = ServerWorld()
        world.driver.grant { $0.nr_hw_queues = 1 }
        let server = try world.server()
        let told = try server.bringUp()
        let bytes = try #require(world.state.readRecord(DeviceID(0)))
        let record = try #require(RecordReading(bytes).record)
        #expect(record == told)
        #expect(record.format == DeviceRecord.newestFormat)
        let driver = try #require(record.driver)
        #expect(driver.queues == 1, "granted, not asked for")
        #expect(driver.depth == 1 && driver.maxIOBytes == 4096)
        #expect(Features(rawValue: driver.features) == server.info.features)
        #expect(driver.params == server.params && driver.params.sizeBytes == 1 << 20)
        #expect(record.loadedScript == world.state.scriptPath(DeviceID(0), bank: 0))
        #expect(record.script == server.request.source.recordedPath && record.origin == .file)
        #expect(record.backing == "file" && record.file == world.disk)
        #expect(record.ledgerFile == world.ledger && record.patienceSeconds == 5)
        #expect(record.seed == server.seed && record.settings == ["seed=7"])
        #expect(record.directory == ScriptSource.workingDirectory)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `the script that runs lies beside the record, whatever becomes of its file`() throws
    {
        let world = ServerWorld()
        let server = try world.server()
        var record = try server.bringUp()
        #expect(contents(of: try #require(record.loadedScript)) == world.script)
        // a reload writes the other name before the record, and takes the old one away after it
        let next = world.state.scriptPath(DeviceID(0), bank: 1)
        record.loadedScript = next
        try server.lifecycle.keep(
            StoredRecord(json: JSON.encode(record), script: Array("-- new".utf8), bank: 1)
        )
        #expect(contents(of: next) == "-- new")
        #expect(contents(of: world.state.scriptPath(DeviceID(0), bank: 0)) == nil)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `a record that cannot be written leaves the script that it tells of`() throws {
        let world = ServerWorld()
        let server = try world.server()
        let record = try server.bringUp()
        let id = DeviceID(0)
        // a folder in its place cannot be replaced by a file
        let path = world.state.recordPath(id)
        #expect(unsafe rename(path, path + ".away") == 0 && mkdir(path, 0o755) == 0)
        #expect(throws: DeviceError.self) {
            try server.lifecycle.keep(
                StoredRecord(json: JSON.encode(record), script: Array("-- new".utf8), bank: 1)
            )
        }
        #expect(contents(of: try #require(record.loadedScript)) == world.script)
        #expect(unsafe rmdir(path) == 0 && rename(path + ".away", path) == 0)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `a device that is recovered has the data mode that it had`() throws {
        let world = ServerWorld()
        world.recovery = .wait
        var first: DeviceServer? = try world.server(settings: ["data=user_copy"])
        let record = try #require(first).bringUp()
        if let first { world.kill(first) }
        first = nil
        // As one that chooses otherwise, or after a reload of another script.
        let second = try world.server(recovering: record)
        #expect(second.plan.config.data == nil && second.data.mode == .userCopy)
        #expect(second.data.reason == record.dataReason)
        #expect(try second.bringUp().data == "user_copy")
        try second.takeDown(deletes: true, patienceSeconds: 5)
    }

    /// AUTO_BUF_REG without USER_COPY: of a mode that is not there yet.
    @Test func `a device of a data mode that is not known is not recovered, but left alone`() throws
    {
        let world = ServerWorld()
        world.recovery = .wait
        var first: DeviceServer? = try world.server()
        var record = try #require(first).bringUp()
        if let first { world.kill(first) }
        first = nil
        record.data = "batch"
        record.driver?.features |= Features.autoBufferRegistration.rawValue
        let given = world.driver.given.count
        #expect {
            _ = try world.server(recovering: record)
        } throws: {
            "\($0)".contains("has the data mode \"batch\", which this ublk-script does not")
        }
        let asked = Set(world.driver.given.dropFirst(given))
        #expect(asked.isSubset(of: [.getDeviceInfo, .getParams]))
        #expect(world.driver.stateOfDevice(DeviceID(0)) == .quiesced)
    }

    @Test func `a record of the first format is read, and stays what it is`() throws {
        let text = """
            {"backing":"memory","cookie":77,"id":3,"logicalBlockBytes":512,"script":"/tmp/faulty.lua",\
            "seed":7,"serverPID":4711,"settings":[],"sizeBytes":1048576}
            """
        let old = try #require(RecordReading(Array(text.utf8)).record)
        var expected = record
        expected.format = nil
        #expect(old == expected)
        #expect(JSON.text(old) == text)
    }

    @Test(arguments: [
        "{\"format\":3}", "{\"format\":4000000000,\"id\":\"three\"}",
    ])
    func `a record of a newer format is told from a damaged one`(text: String) throws {
        let reading = RecordReading(Array(text.utf8))
        #expect(reading.record == nil)
        let format = try #require(reading.newerFormat)
        let path = "/run/ublk-script/3.json"
        #expect {
            _ = try reading.own(path, DeviceID(3))
        } throws: { error in
            let text = (error as? Failure)?.text ?? ""
            return text.contains("\(path) is of format \(format), and this ublk-script")
                && text.contains(
                    "knows them up to 2: a newer one made device 3. Use that one for it."
                )
        }
    }

    @Test(arguments: ["", "{", "{}", "[]", "{\"format\":2}", "{\"format\":\"3\"}"])
    func `what is no record is damaged`(text: String) {
        #expect(RecordReading(Array(text.utf8)) == .damaged)
    }

    @Test func `an entry of list tells of a newer record`() {
        let info = DeviceInfo(id: DeviceID(3), queues: 1, depth: 1, maxIOBytes: 4096, features: [])
        var listing = DeviceListing(info, id: DeviceID(3), record: nil)
        #expect(!JSON.text(listing).contains("recordFormat"))
        listing.recordFormat = 3
        let text = listing.text.split { $0 == "\n" || $0 == " " }.joined(separator: " ")
        #expect(text.contains("(a newer ublk-script made it: its record is of format 3)"))
        #expect(JSON.text(listing).contains("\"recordFormat\":3"))
    }
}
