import Testing

@testable import UblkScript

/// What is said of a device whose server died: why it is not recovered, and what is left to do.
@Suite struct RecoveryTextTests {
    private static let id = DeviceID(0)
    private let world = ServerWorld()

    @Test func `what cannot be recovered has a sentence of its own`() {
        var record = DeviceRecord(
            id: 3,
            serverPID: 4711,
            cookie: 77,
            script: "/tmp/faulty.lua",
            loadedScript: "/run/ublk-script/3.lua",
            backing: "null",
            sizeBytes: 1 << 20,
            logicalBlockBytes: 512,
            seed: 7,
            settings: []
        )
        var info = DeviceInfo(
            id: DeviceID(3),
            queues: 1,
            depth: 1,
            maxIOBytes: 4096,
            features: [.userRecovery]
        )
        info.cookie = 77
        record.driver = .init(info, DeviceParams(sizeBytes: 1 << 20))
        info.state = .quiesced
        func refusal(server: Int32? = nil, _ change: (inout DeviceInfo) -> Void = { _ in })
            -> String
        {
            var info = info
            change(&info)
            return RecoveredDevice.refusal(record, info, server: server) ?? "none"
        }
        #expect(refusal() == "none")
        #expect(refusal { $0.state = .failIO } == "none")
        #expect(refusal { $0.state = .live } == "none", "the driver will notice")
        #expect(refusal(server: 5) == "none", "the pid may be another server's")
        #expect(
            refusal(server: 5) { $0.state = .live }
                == "device 3 is served by process 5: there is nothing to recover"
        )
        #expect(refusal { $0.cookie = 78 }.contains("device 3 is another program's"))
        #expect(refusal { $0.features = [] }.contains("added without recovery"))
        #expect(refusal { $0.state = .dead }.contains("device 3 is stopped, for good"))
        record.loadedScript = nil
        #expect(refusal().contains("an older ublk-script wrote it"))
    }

    @Test func `an entry of list tells of a device that waits for a server`() throws {
        var record = try RecoveryTests.orphan(world, .fail)
        record.serverPID = 0
        var info = try DriverQueries(world.driver.control()).info(of: Self.id)
        func entry() -> (text: String, json: String) {
            let listing = DeviceListing(info, id: Self.id, record: record)
            let words = listing.text.split { $0 == "\n" || $0 == " " }
            return (words.joined(separator: " "), JSON.text(listing))
        }
        #expect(entry().text.contains("state FAIL_IO") && entry().text.contains("recovery fail"))
        #expect(
            entry().text.contains(
                "it has no server, IO fails until the next one: ublk-script recover 0, or ublk-script del 0"
            )
        )
        #expect(entry().json.contains("\"nextStep\":\"ublk-script recover 0, or"))
        info.features.remove(.userRecoveryFailIO)
        // The kernel has not noticed yet.
        info.state = .live
        #expect(
            entry().text.contains("state QUIESCED") && entry().text.contains("IO waits for the")
        )
        info.features = []
        #expect(entry().text.contains("state DEAD") && !entry().json.contains("nextStep"))
        world.driver.lose(Self.id)
        world.state.remove(Self.id)
    }

    @Test func `a number whose device waits for a server is not added`() throws {
        _ = try RecoveryTests.orphan(world)
        var info = DeviceInfo(id: Self.id, queues: 1, depth: 1, maxIOBytes: 4096, features: [])
        info.cookie = 1
        let device = NewDevice(access: world.driver, clock: world.clock.clock)
        #expect { _ = try device.add(info) } throws: {
            "\($0)".contains("device 0 exists already")
                && "\($0)".contains("recover 0 brings it back")
        }
        world.driver.lose(Self.id)
        world.state.remove(Self.id)
    }
}
