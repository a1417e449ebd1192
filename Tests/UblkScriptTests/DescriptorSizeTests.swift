import CUring
import Testing

@testable import UblkScript

/// Io descriptors further apart than they are long: who asks for that, and what becomes of it.
@Suite struct DescriptorSizeTests {
    @Test func `a server asks for descriptors that far apart, and list tells what it was given`()
        throws
    {
        let world = ServerWorld()
        let server = try world.server(settings: ["io_desc_size=64"])
        let record = try server.bringUp()
        #expect(server.info.features.contains(.ioDescriptorSize))
        #expect(server.info.descriptorBytes == 64)
        #expect(server.contexts.allSatisfy { $0.descriptorBytes == 64 })
        let details = DeviceDetails(server.info, id: server.id, record: record)
        #expect(details.ioDescBytes == 64)
        #expect(details.lines.contains("io descriptors of 64 bytes"))
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test(arguments: [[], ["io_desc_size=24"]])
    func `24 bytes are every driver's`(settings: [String]) throws {
        let world = ServerWorld()
        world.driver.offer([.ioctlEncode])
        let server = try world.server(settings: settings)
        _ = try server.bringUp()
        #expect(!server.info.features.contains(.ioDescriptorSize))
        #expect(server.contexts.allSatisfy { $0.descriptorBytes == 24 })
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `a driver that lacks them is told before anything is made`() throws {
        let world = ServerWorld()
        world.driver.offer([.ioctlEncode])
        let server = try world.server(settings: ["io_desc_size=64"])
        #expect {
            _ = try server.bringUp()
        } throws: { "\($0)".contains("IO_DESC_SIZE") && "\($0)".contains("7.3") }
        #expect(!world.driver.given.contains(.addDevice))
        #expect(world.leftovers().isEmpty)
    }

    @Test func `a driver that gives others than it was asked for is not served`() throws {
        let world = ServerWorld()
        world.driver.grant { $0.io_desc_size = 32 }
        let server = try world.server(settings: ["io_desc_size=64"])
        #expect {
            _ = try server.bringUp()
        } throws: { "\($0)".contains("granted other features or limits") }
        #expect(world.leftovers().isEmpty)
    }

    @Test func `what was padding before the flag is not taken for a size`() {
        var raw = DeviceInfo(id: nil, queues: 1, depth: 1, maxIOBytes: 4096, features: []).raw
        #expect(raw.io_desc_size == 0)
        raw.io_desc_size = 0xffff
        #expect(DeviceInfo(raw).descriptorBytes == 24)
    }

    @Test func `it is a multiple of 8`() {
        #expect {
            _ = try DeviceConfig([.test("size", "1M"), .test("io_desc_size", 60)])
        } throws: { "\($0)".contains("a multiple of 8") }
    }
}
