import Glibc
import Testing

@testable import UblkScript

/// What `list -v` says of a device: each flag, each parameter, each queue, in words.
@Suite struct DeviceDetailsTests {
    private static let id = DeviceID(0)

    private func text(_ info: DeviceInfo, _ details: DeviceDetails?, _ record: DeviceRecord? = nil)
        -> String
    {
        var listing = DeviceListing(info, id: Self.id, record: record)
        listing.details = details
        return listing.text.split { $0 == "\n" || $0 == " " }.joined(separator: " ")
    }

    @Test func `each flag says what it is for, and one that nobody knows says that`() {
        let info = DeviceInfo(
            id: Self.id,
            queues: 1,
            depth: 8,
            maxIOBytes: 4096,
            features: [.userCopy, .updateSize, .userRecovery, Features(rawValue: 1 << 40)]
        )
        let details = DeviceDetails(info, id: Self.id, record: nil)
        #expect(details.flags.map(\.bit) == [3, 7, 10, 40])
        #expect(details.flags.map(\.since) == ["6.1", "6.5", "6.16", nil])
        let said = text(info, details)
        for flag in [
            "USER_RECOVERY the device outlives its server",
            "USER_COPY the server copies data itself",
            "UPDATE_SIZE the size of a device that runs can be changed",
            "UNKNOWN_40 this ublk-script does not know it",
        ] { #expect(said.contains(flag), "\(flag)") }
        for feature in info.features.known { #expect(said.contains(feature.purpose)) }
        #expect(said.contains("recovery wait: when its server dies IO under way fails (EIO)"))
        #expect(said.contains("queue 0: tags 0 to 7, no thread of ublk-script"))
        // Of another program's device nobody has said them.
        #expect(details.parameters == nil && !said.contains("SET_PARAMS"))
        #expect(!text(info, nil).contains("outlives its server"), "only when it is asked for")
    }

    @Test func `parameters, threads, loads and paths are those of the device`() throws {
        let world = ServerWorld()
        let server = try world.server()
        let record = try server.bringUp()
        var details = DeviceDetails(
            server.info,
            id: Self.id,
            record: record,
            state: world.state
        )
        details.take(server.status)
        #expect(details.queues.map(\.inServer) == [0, 0])
        details.take(ServerStatus(lines: "queue 0 1 0 0\nqueue 1 3 1 2"))
        let said = text(server.info, details, record)
        for part in [
            "size 1M, 2048 sectors of 512 bytes", "logical block 512", "physical block 4K",
            "largest IO 4K", "attributes VOLATILE_CACHE FUA", "discard granularity",
            "data copy: \"auto\" takes it", "recovery off: when its server dies the disk goes too",
            "/dev/ublkc0", world.state.socketPath(Self.id), world.state.recordPath(Self.id),
        ] { #expect(said.contains(part), "\(part) in \(said)") }
        #expect(said.contains("io descriptors of 24 bytes"))
        #expect(said.contains(", 1 IO in the server queue 1: tags 0 to 0, thread "))
        #expect(said.contains(", 3 IOs in the server (1 delayed, 2 held)"))
        for queue in details.queues {
            let thread = try #require(queue.thread)
            let comm = contents(of: "/proc/self/task/\(thread)/comm")
            // Other tests have such threads, which may have ended since.
            #expect(comm == nil || comm == "ublk-q\(queue.queue)\n")
            #expect(queue.cpus?.isEmpty == false)
        }
        #expect(details.paths.script == record.loadedScript)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }
}
