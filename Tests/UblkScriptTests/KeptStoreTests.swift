import CUring
import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// Stores in memory that outlive their server: the bytes, their room, and who finds them.
@Suite struct KeptStoreTests {
    private static let id = DeviceID(0)
    private let folder = ScratchDirectory()
    private let world = ServerWorld()

    private func store(
        _ sizeBytes: UInt64 = 1 << 20,
        needs: UInt64? = nil,
        isLocked: Bool = false
    ) throws -> KeptStore {
        try KeptStore(
            in: folder.path,
            number: 0,
            sizeBytes: sizeBytes,
            needsBytes: needs ?? sizeBytes,
            isLocked: isLocked,
            isInMemory: { _ in true }
        )
    }

    /// Does an operation as a queue does; nil: it is done, otherwise the errno.
    private func perform(
        _ op: IOOp,
        _ store: Store,
        at offset: UInt64,
        _ data: inout [UInt8]
    ) -> Int32? {
        var store = store
        var transfer = Transfer(op, store: 0, at: 0, length: UInt64(data.count), offset: offset)
        return unsafe data.withUnsafeMutableBytes {
            guard let first = $0.baseAddress else { return nil }
            switch unsafe store.begin(&transfer, .mapped(first)) {
            case .done: return nil
            case .failed(let errno, _): return errno
            case .submit: return -1
            }
        }
    }

    private func write(_ byte: UInt8, _ store: KeptStore, at offset: UInt64, count: Int) {
        var data = [UInt8](repeating: byte, count: count)
        #expect(perform(.write, .kept(store.view), at: offset, &data) == nil)
    }

    private func read(_ store: KeptStore, at offset: UInt64, count: Int) -> [UInt8] {
        var data = [UInt8](repeating: 0xdd, count: count)
        #expect(perform(.read, .kept(store.view), at: offset, &data) == nil)
        return data
    }

    private func blocks(_ path: String) -> Int {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? Int(status.st_blocks) : -1
    }

    // MARK: The bytes

    @Test(arguments: [false, true])
    func `bytes are zero until written and zero again when cleared`(isLocked: Bool) throws {
        let store = try store(isLocked: isLocked)
        try store.populate()
        #expect(read(store, at: 0, count: 65536).allSatisfy { $0 == 0 })
        for (offset, length) in [(8192, 8192), (8704, 20480), (4608, 512), (512, 4096)] {
            for op in [IOOp.discard, .writeZeroes] {
                write(0xee, store, at: 0, count: 65536)
                var none = [UInt8](repeating: 0, count: length)
                #expect(perform(op, .kept(store.view), at: UInt64(offset), &none) == nil)
                let cleared = offset..<offset + length
                let expected: [UInt8] = (0..<65536).map { cleared.contains($0) ? 0 : 0xee }
                #expect(read(store, at: 0, count: 65536) == expected, "\(op) \(cleared)")
            }
        }
        var data = [UInt8](repeating: 0, count: 512)
        #expect(perform(.flush, .kept(store.view), at: 0, &data) == nil)
        #expect(perform(.read, .kept(store.view), at: 1 << 20, &data) == EIO, "past its end")
    }

    @Test func `a hole takes no memory when it is read, and a discard gives memory back`() throws {
        let store = try store()
        let path = folder.file("0.memory")
        try store.name(path)
        _ = read(store, at: 0, count: 1 << 20)
        #expect(blocks(path) == 0)
        write(1, store, at: 0, count: 1 << 20)
        #expect(blocks(path) >= 2048)
        var none = [UInt8](repeating: 0, count: 1 << 20)
        #expect(perform(.discard, .kept(store.view), at: 0, &none) == nil)
        #expect(blocks(path) == 0)
    }

    @Test func `what is locked is there before it is written, and stays`() throws {
        let store = try store(isLocked: true)
        let path = folder.file("0.memory")
        try store.name(path)
        #expect(store.missingBytes == 1 << 20)
        try store.populate()
        #expect(blocks(path) >= 2048 && store.missingBytes == 0)
        var none = [UInt8](repeating: 0, count: 1 << 20)
        #expect(perform(.discard, .kept(store.view), at: 0, &none) == nil)
        #expect(blocks(path) >= 2048)
    }

    @Test func `what a locked store grew by is written, read and cleared with the rest`() throws {
        let store = try store(isLocked: true)
        let path = folder.file("0.memory")
        try store.name(path)
        try store.populate()
        try store.grow(to: 2 << 20)
        let border: UInt64 = 1 << 20
        write(6, store, at: border - 4096, count: 8192)
        #expect(read(store, at: border - 4096, count: 8192) == [UInt8](repeating: 6, count: 8192))
        var none = [UInt8](repeating: 0, count: 8192)
        #expect(perform(.discard, .kept(store.view), at: border - 4096, &none) == nil)
        #expect(read(store, at: border - 4096, count: 8192) == [UInt8](repeating: 0, count: 8192))
        #expect(blocks(path) == 2048, "only what it grew by is given back")
    }

    @Test func `it has no name until it is given one, and the next server finds it by that`() throws
    {
        let path = folder.file("0.memory")
        do {
            let first = try store()
            #expect(DirectoryListing.names(folder.path).isEmpty)
            try first.name(path)
            write(7, first, at: 4096, count: 512)
            try first.grow(to: 2 << 20)
            write(8, first, at: (2 << 20) - 512, count: 512)
        }
        let next = try KeptStore(opening: path, number: 0, sizeBytes: 2 << 20, isLocked: false)
        #expect(read(next, at: 4096, count: 512) == [UInt8](repeating: 7, count: 512))
        #expect(read(next, at: (2 << 20) - 512, count: 512) == [UInt8](repeating: 8, count: 512))
        #expect(Store.kept(next.view).isSame(as: .kept(next.view)))
        #expect(throws: KeptStore.Problem.self) {
            try KeptStore(opening: path, number: 0, sizeBytes: 4 << 20, isLocked: false)
        }
        // A new one takes the name.
        let other = try store()
        try other.name(path)
        #expect(blocks(path) == 0)
    }

    @Test func `what has no room is refused with the numbers`() throws {
        #expect {
            _ = try store(needs: 1 << 60)
        } throws: {
            let text = "\($0)"
            return text.contains(folder.path) && text.contains("1048576 TiB")
                && text.contains("three quarters of what is free") && text.contains("--file PATH")
        }
        let small = try store()
        #expect(throws: KeptStore.Problem.self) { try small.grow(to: 1 << 60) }
        #expect(small.sizeBytes == 1 << 20)
    }

    // MARK: A device

    private func deviceInMemory(_ settings: [String] = ["seed=7"]) throws -> DeviceServer {
        world.storesInMemory = true
        world.recovery = .reissue
        return try world.server(settings: settings)
    }

    private func bytes(_ server: DeviceServer, _ op: IOOp, _ byte: UInt8 = 0) -> [UInt8] {
        var data = [UInt8](repeating: byte, count: 512)
        #expect(perform(op, server.backings.views[0], at: 4096, &data) == nil)
        return data
    }

    @Test(arguments: [[], ["lock_memory=true"]] as [[String]])
    func `the next server has the bytes, and del takes them away`(more: [String]) throws {
        let settings = ["seed=7"] + more
        var server = try deviceInMemory(settings)
        var record = try server.bringUp()
        _ = bytes(server, .write, 0x5a)
        for _ in 0..<2 {
            world.kill(server)
            server = try world.server(settings: settings, recovering: record)
            record = try server.bringUp()
            #expect(bytes(server, .read) == [UInt8](repeating: 0x5a, count: 512))
        }
        try server.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == [world.ledger])
    }

    @Test func `a device that is stopped gives its bytes back`() throws {
        let server = try deviceInMemory()
        _ = try server.bringUp()
        let path = world.state.memoryPath(Self.id, 0)
        #expect(blocks(path) == 0)
        try server.takeDown(deletes: false, patienceSeconds: 5)
        #expect(blocks(path) == -1)
    }

    @Test func `bytes that are gone leave the device waiting`() throws {
        let server = try deviceInMemory()
        let record = try server.bringUp()
        world.kill(server)
        unsafe unlink(world.state.memoryPath(Self.id, 0))
        #expect {
            _ = try world.server(recovering: record)
        } throws: {
            "\($0)".contains("0.memory is not there any more")
        }
        #expect(world.driver.stateOfDevice(Self.id) == .quiesced)
        #expect(world.state.readRecord(Self.id) != nil)
    }

    @Test func `a state directory on a disk is refused before anything is made`() throws {
        world.isInMemory = false
        #expect {
            _ = try deviceInMemory()
        } throws: {
            "\($0)".contains("which is on a disk here") && "\($0)".contains("--file PATH")
        }
        #expect(world.driver.given.filter { $0 == .addDevice }.isEmpty)
        #expect(world.leftovers().isEmpty)
    }

    @Test func `a device that cannot come up leaves nothing of its bytes`() throws {
        let server = try deviceInMemory()
        world.queues.problem.set("queue 1: no ring")
        #expect(throws: (any Error).self) { _ = try server.bringUp() }
        #expect(world.leftovers().isEmpty)
    }

    @Test func `without recovery they are the server's own`() throws {
        world.storesInMemory = true
        let server = try world.server()
        _ = try server.bringUp()
        #expect(blocks(world.state.memoryPath(Self.id, 0)) == -1)
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }
}
