import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// The commands for `/dev/ublk-control` in a trace: all that were given for the device, decoded, in their order.
@Suite struct CommandTraceTests {
    private static func page(_ server: DeviceServer, _ words: [String] = []) throws -> TracePage {
        guard case .trace(let page) = server.trace(try TraceRequest(words: words)) else {
            throw Failure("no trace")
        }
        return page
    }

    @Test
    func `a trace begins with the commands that made the device, and goes on with the others`()
        throws
    {
        let world = ServerWorld()
        let server = try world.server()
        _ = try server.bringUp()
        let first = try Self.page(server)
        let made = first.steps.filter { $0.ago != nil }
        #expect(
            made.map(\.step) == [
                .getFeatures, .addDevice, .setParams, .getParams, .getQueueAffinity,
                .getQueueAffinity, .startDevice, .getDeviceInfo,
            ]
        )
        #expect(made == Array(first.steps.prefix(made.count)) && made.allSatisfy { $0.t == 0 })
        #expect(made.indices.dropFirst().allSatisfy { made[$0 - 1].ago ?? 0 >= made[$0].ago ?? 0 })
        #expect(made.allSatisfy { $0.result == 0 && $0.queue == nil })
        try #require(made.count == 8)
        let added = made[1].what ?? ""
        #expect(added.hasPrefix("2 queues, depth 1, at most 4 KiB an IO, flags "), "\(added)")
        #expect(added.contains("; it is device 0"), "\(added)")
        let params = made[2].what ?? ""
        for part in [
            "BASIC: 2048 sectors of 512 bytes, logical block 512 B, physical 4 KiB",
            "at most 4 KiB an IO, VOLATILE_CACHE FUA; DISCARD: granularity",
        ] { #expect(params.contains(part), "\(params)") }
        #expect(made[3].what == params)
        #expect(made[4].what?.hasPrefix("queue 0, CPU") == true)
        #expect(made[6].what == "process \(getpid()) serves it")
        // What comes later is told once, with its failure.
        world.driver.fail(.updateSize, .invalidArgument)
        #expect(!ControlAnswer(server.resize(try ResizeRequest(words: ["2M"]))).isOK)
        #expect(ControlAnswer(server.resize(try ResizeRequest(words: ["4M"]))).isOK)
        let second = try Self.page(server, first.cursor)
        let later = second.steps.filter { $0.step == .updateSize }
        #expect(later.map(\.what) == ["4096 sectors of 512 bytes", "8192 sectors of 512 bytes"])
        #expect(later.map(\.errno) == ["EINVAL", nil] && later.allSatisfy { $0.ago == nil })
        #expect(try !Self.page(server, second.cursor).steps.contains { $0.step.isCommand })
        try server.takeDown(deletes: true, patienceSeconds: 5)
        let last = try Self.page(server, second.cursor).steps.filter(\.step.isCommand)
        #expect(last.first?.step == .stopDevice && last.contains { $0.step == .deleteDevice })
    }

    @Test func `a device that is recovered shows how`() throws {
        let world = ServerWorld()
        let record = try RecoveryTests.orphan(world, .reissue, busyRecoveries: 3)
        let server = try world.server(recovering: record)
        _ = try server.bringUp()
        let made = try Self.page(server).steps.filter(\.step.isCommand)
        let tries = made.filter { $0.step == .startRecovery }
        #expect(tries.map(\.errno) == ["EBUSY", "EBUSY", nil])
        #expect(made.contains { $0.step == .endRecovery && $0.result == 0 })
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `a log keeps the latest commands, and counts on`() {
        let log = CommandLog(clock: .machine)
        for number in 0..<300 { log.note(.getDeviceInfo, begun: 0, nil, "\(number)") }
        let all = log.entries(from: 0)
        #expect(all.entries.map(\.text) == (44..<300).map { "\($0)" } && all.next == 300)
        #expect(log.entries(from: 298).entries.map(\.text) == ["298", "299"])
        #expect(log.entries(from: 300).entries.isEmpty && log.entries(from: 999).entries.isEmpty)
        log.note(.stopDevice, begun: .max, .timeout(.stopDevice, nil, seconds: 3), "")
        let last = log.entries(from: 300).entries.first
        #expect(last?.result == nil && last?.nanoseconds == 0)
    }

    @Test func `commands stand in text and in Perfetto as what they are`() throws {
        var before = TraceStep(t: 0, step: .addDevice)
        (before.ago, before.nanoseconds) = (1_500_000_000, 2_000_000)
        (before.what, before.result) = ("1 queue", 0)
        var live = TraceStep(t: 5000, step: .updateSize)
        (live.nanoseconds, live.result, live.errno) = (1000, -22, "EINVAL")
        var silent = TraceStep(t: 6000, step: .stopDevice)
        silent.nanoseconds = 3_000_000_000
        var text = TraceText()
        #expect(
            [before, live, silent].flatMap { text.lines($0) } == [
                "-1.500000000                        ADD_DEV              result 0 in 2 ms: 1 queue",
                "0.000005000                        UPDATE_SIZE          result -22, EINVAL, in 1 us",
                "0.000006000                        STOP_DEV             no answer in 3 s",
            ]
        )
        var request = TraceStep(t: 4000, step: .request)
        request.queue = 0
        let merged = TraceStep.merged([before, live, silent], [request])
        #expect(merged.map(\.step) == [.addDevice, .request, .updateSize, .stopDevice])
        for kind in ControlCommand.Kind.allCases {
            let step = try #require(TraceStep.Kind(rawValue: kind.rawValue), "\(kind)")
            #expect(step.isCommand && step.explanation.contains(kind.rawValue.prefix(8)), "\(kind)")
        }
        #expect(!TraceStep.Kind.fetch.isCommand && !TraceStep.Kind.lost.isCommand)
    }

    @Test func `CPUs of a bitmap are runs of numbers`() {
        #expect(ControlCommand.cpus([0b0010_1111, 0b1]) == "0-3,5,8")
        #expect(ControlCommand.cpus([0xff, 0xff, 0, 0]) == "0-15")
        #expect(ControlCommand.cpus([0, 0]) == "")
    }
}
