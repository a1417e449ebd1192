import SystemPackage
import Testing

@testable import UblkScript

/// The rules of the driver, and that breaking them is noticed.
@Suite struct SimulatorTransportTests {
    static func transport(
        _ requests: [SimulatedRequest],
        depth: Int = 2,
        mode: DataMode = .copy,
        interventions: [SimulatedTransport.Intervention] = []
    ) -> SimulatedTransport {
        let wakeup = QueueWakeup()
        let stream = RequestStream(
            Workload(requests, depth: depth),
            config: DeviceConfig.empty,
            sizeBytes: 1 << 20,
            seed: 1
        )
        let machine = SimulatedMachine(
            application: SimulatedApplication(
                stream,
                depth: depth,
                queueDepth: depth,
                oracle: DataOracle(unitBytes: 512, depth: depth),
                keepsFinished: true
            ),
            files: [],
            controls: [QueueControl { wakeup.signal() }],
            seed: 1
        )
        return SimulatedTransport(
            machine,
            depth: depth,
            maxIOBytes: 65536,
            mode: mode,
            wakeup: wakeup,
            interventions: interventions
        )
    }

    /// Waits until a request has arrived.
    static func fetch(_ transport: inout SimulatedTransport) -> UInt16 {
        transport.wait(until: nil)
        guard case .fetched(let tag) = transport.nextEvent() else { preconditionFailure() }
        return tag.rawValue
    }

    @Test func `a commit is not seen before the next wait`() {
        var transport = Self.transport([.read(0)], depth: 1)
        let tag = Self.fetch(&transport)
        transport.commit(Tag(tag), Commit(result: 4096))
        #expect(transport.nextEvent() == nil)
        #expect(transport.machine.application.finished.isEmpty)
        transport.wait(until: nil)
        #expect(transport.machine.application.finished.count == 1)
    }

    @Test func `a wait ends at the deadline when nothing happens before it`() {
        var transport = Self.transport([.read(0)], depth: 1)
        transport.wait(until: Instant(nanoseconds: 10))
        #expect(transport.now == Instant(nanoseconds: 10))
        #expect(transport.nextEvent() == nil)
        _ = Self.fetch(&transport)
        #expect(transport.now.nanoseconds >= 5000)
    }

    @Test func `every tag is aborted when the last request is over`() {
        var transport = Self.transport([.read(0)], depth: 2)
        let tag = Self.fetch(&transport)
        transport.commit(Tag(tag), Commit(result: 4096))
        transport.wait(until: nil)
        var aborted = 0
        while let event = transport.nextEvent() { if case .aborted = event { aborted += 1 } }
        #expect(aborted == 2)
    }

    @Test func `a tag is committed once`() async {
        await #expect(processExitsWith: .failure) {
            var transport = SimulatorTransportTests.transport([.read(0)])
            let tag = SimulatorTransportTests.fetch(&transport)
            transport.commit(Tag(tag), Commit(result: 4096))
            transport.commit(Tag(tag), Commit(result: 4096))
        }
    }

    @Test func `only a tag with a request is committed`() async {
        await #expect(processExitsWith: .failure) {
            var transport = SimulatorTransportTests.transport([.read(0)])
            transport.commit(Tag(1), Commit(result: 4096))
        }
    }

    @Test func `a short result stops the program`() async {
        await #expect(processExitsWith: .failure) {
            var transport = SimulatorTransportTests.transport([.read(0)])
            let tag = SimulatorTransportTests.fetch(&transport)
            transport.commit(Tag(tag), Commit(result: 512))
        }
    }

    @Test func `a result of nothing stops the program`() async {
        await #expect(processExitsWith: .failure) {
            var transport = SimulatorTransportTests.transport([.write(0)])
            let tag = SimulatorTransportTests.fetch(&transport)
            transport.commit(Tag(tag), Commit(result: 0))
        }
    }

    @Test func `a result beyond the request stops the program`() async {
        await #expect(processExitsWith: .failure) {
            var transport = SimulatorTransportTests.transport([.discard(0)])
            let tag = SimulatorTransportTests.fetch(&transport)
            transport.commit(Tag(tag), Commit(result: 4097))
        }
    }

    @Test func `errnos that the block layer does not know are EIO`() {
        let request = SimulatedRequest.read(0)
        func outcome(_ errno: Int32) -> BlockLayer.Outcome {
            BlockLayer.outcome(of: request, result: -errno)
        }
        #expect(outcome(61) == .failed(.noData))
        #expect(outcome(13) == .failed(.ioError))
        #expect(outcome(1) == .failed(.ioError))
        #expect(BlockLayer.outcome(of: request, result: 4096) == .done)
        #expect(BlockLayer.outcome(of: request, result: 0) == .failed(.ioError))
        #expect(BlockLayer.outcome(of: .flush, result: 0) == .done)
    }
}

extension DeviceConfig {
    /// All defaults.
    static var empty: DeviceConfig {
        let size = Setting(key: "size", value: .string("1M"), origin: "test")
        guard let config = try? DeviceConfig([size]) else { preconditionFailure() }
        return config
    }
}
