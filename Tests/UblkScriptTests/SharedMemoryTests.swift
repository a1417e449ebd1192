import CUring
import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// Memory that programs share with a server: what the driver is told of it, and when it is given back.
@Suite struct SharedMemoryTests {
    @Test func `REG_BUF has the memory's address and length, and answers its number`() throws {
        let control = RecordedControl()
        control.result = 3
        let memory = try SharedMemory(byteCount: 64 << 10)
        #expect(try ControlDevice(control).register(memory, with: DeviceID(5)) == 3)
        let sent = try #require(control.sent.first)
        #expect(sent.command.kind.code == 0xc020_7518 && sent.command.device == DeviceID(5))
        let address = unsafe UInt64(UInt(bitPattern: memory.first))
        #expect(
            sent.payload == Bytes.of(address) + Bytes.of(UInt64(64 << 10)) + Bytes.of(UInt64(0))
        )
    }

    @Test func `a place in shared memory is all within it`() throws {
        let memory = try SharedMemory(byteCount: 8192)
        let view = SharedBuffer(memory: memory, number: 1).view
        func offset(_ address: UInt64, _ length: UInt64) -> Int? {
            unsafe view.place(of: address, length: length).map { unsafe $0 - memory.first }
        }
        #expect(offset(1 << 32, 8192) == 0 && offset(1 << 32 | 4608, 3584) == 4608)
        #expect(offset(1 << 32 | 4608, 3585) == nil && offset(1 << 32 | 8192, 1) == nil)
        #expect(offset(1 << 32 | 0xffff_ffff, .max) == nil)
        #expect(offset(0, 512) == nil && offset(2 << 32, 512) == nil, "another buffer")
    }

    @Test func `memory to share is registered before there is a disk, and given back before DEL`()
        throws
    {
        let world = ServerWorld()
        let server = try world.server(settings: ["data=shared_memory", "shared_memory=64K"])
        let record = try server.bringUp()
        let path = try #require(record.sharedMemory)
        let fd = unsafe open(path, O_RDWR)
        defer { close(fd) }
        var status = stat()
        #expect(unsafe fstat(fd, &status) == 0 && status.st_size == 64 << 10)
        #expect(ftruncate(fd, 0) == -1 && errno == EPERM, "its size can be changed")
        var byte: UInt8 = 7
        #expect(unsafe pwrite(fd, &byte, 1, 4096) == 1)
        let buffer = try #require(server.lifecycle.sharedBuffer)
        #expect(unsafe (buffer.memory.first + 4096).load(as: UInt8.self) == 7)
        #expect(server.contexts.allSatisfy { $0.sharedBuffer?.number == buffer.number })
        let listing = DeviceListing(server.info, id: server.id, record: record)
        #expect(listing.sharedMemory == path && listing.text.contains("memory to share: \(path)"))
        try server.takeDown(deletes: true, patienceSeconds: 5)
        let wanted: [ControlCommand.Kind] = [
            .addDevice, .registerBuffer, .startDevice, .stopDevice, .unregisterBuffer,
            .deleteDevice,
        ]
        #expect(world.driver.given.filter(wanted.contains) == wanted)
    }

    @Test func `a device of another mode has no memory to share`() throws {
        let world = ServerWorld()
        let server = try world.server(settings: ["data=user_copy"])
        #expect(try server.bringUp().sharedMemory == nil)
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(!world.driver.given.contains(.registerBuffer))
        #expect(!world.driver.given.contains(.unregisterBuffer))
    }

    @Test func `memory that the driver refuses leaves nothing`() throws {
        let world = ServerWorld()
        world.driver.fail(.registerBuffer, .noMemory)
        let server = try world.server(settings: ["data=shared_memory"])
        #expect(throws: DeviceError.self) { _ = try server.bringUp() }
        #expect(world.driver.presentIDs().isEmpty && world.leftovers().isEmpty)
    }
}
