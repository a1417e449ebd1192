import CUring
import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// A device that runs gets another size: the store, the queues, the driver and the record go together or not at all.
@Suite struct ResizeTests {
    private static let before: UInt64 = 1 << 20

    /// A server of a device of 1 MiB in a file, over a driver in memory.
    private struct Running {
        let world = ServerWorld()
        let server: DeviceServer

        init() throws {
            server = try world.server()
            _ = try server.bringUp()
        }

        func resize(_ words: String...) throws -> ControlAnswer {
            ControlAnswer(server.resize(try ResizeRequest(words: words)))
        }

        var fileBytes: Int {
            var status = stat()
            return unsafe stat(world.disk, &status) == 0 ? Int(status.st_size) : -1
        }

        var record: DeviceRecord? {
            world.state.readRecord(DeviceID(0)).flatMap { JSON.decode(DeviceRecord.self, $0) }
        }

        /// Nothing of the device has changed.
        var isAsBefore: Bool {
            server.sizeBytes == before && world.driver.sizeBytes(DeviceID(0)) == before
                && fileBytes == Int(before) && record?.sizeBytes == before
                && (world.queues.sizes.value.last ?? before) == before
        }

        func end() throws { try server.takeDown(deletes: true, patienceSeconds: 5) }
    }

    @Test(arguments: [("4M", UInt64(4) << 20), ("+512K", 1536 << 10)])
    func `a device that grows has its file, its queues and its record with it`(
        size: String,
        bytes: UInt64
    ) throws {
        let running = try Running()
        let answer = try running.resize(size)
        #expect(answer.isOK && answer.text.hasSuffix(" now; it had 1M"), "\(answer.text)")
        #expect(running.server.sizeBytes == bytes && running.fileBytes == Int(bytes))
        #expect(running.world.driver.sizeBytes(DeviceID(0)) == bytes)
        #expect(running.world.queues.sizes.value == [bytes, bytes])
        let record = try #require(running.record)
        #expect(record.sizeBytes == bytes && record.driver?.params.sizeBytes == bytes)
        #expect(record.settings == ["seed=7", "size=\(bytes)"])
        #expect(running.world.log().contains("has \(Quantity.text(bytes: bytes)) now"))
        try running.end()
    }

    @Test func `a device that shrinks leaves its file, and has it again when it grows`() throws {
        let running = try Running()
        #expect(try running.resize("512K").text.contains("would be cut off. --force does it"))
        #expect(running.isAsBefore)
        #expect(try running.resize("512K", "force").isOK)
        #expect(running.server.sizeBytes == 512 << 10 && running.fileBytes == Int(Self.before))
        #expect(running.world.driver.sizeBytes(DeviceID(0)) == 512 << 10)
        #expect(try running.resize("1M").isOK)
        #expect(running.isAsBefore)
        #expect(try running.resize("1M").text == "/dev/ublkb0 has 1M already")
        try running.end()
    }

    @Test(arguments: [
        ("0", "a size of 0: a multiple of the logical block (512 bytes) up to 1T is expected"),
        ("1000", "a size of 1000: a multiple"), ("+1", "a size of 1048577: a multiple"),
        ("2T", "a size of 2T: a multiple"), ("1P", "a size of 1024T: a multiple"),
    ])
    func `a size that the device cannot have changes nothing`(size: String, says: String) throws {
        let running = try Running()
        let answer = try running.resize(size, "force")
        #expect(!answer.isOK && answer.text.contains(says), "\(answer.text)")
        #expect(running.isAsBefore && !running.world.driver.given.contains(.updateSize))
        try running.end()
    }

    @Test func `a driver that cannot is told of before anything is done`() throws {
        let running = try Running()
        running.world.driver.offer(Features(rawValue: 0x1fe))
        #expect(try running.resize("4M").text.contains("(UPDATE_SIZE, from 6.16)"))
        #expect(running.isAsBefore && !running.world.driver.given.contains(.updateSize))
        try running.end()
    }

    @Test func `a driver that refuses leaves the device and its file as they were`() throws {
        let running = try Running()
        running.world.driver.fail(.updateSize, .invalidArgument)
        let answer = try running.resize("4M")
        #expect(!answer.isOK && answer.text.contains("UPDATE_SIZE of device 0 failed"))
        #expect(running.isAsBefore && running.world.queues.sizes.value.contains(4 << 20))
        #expect(try running.resize("2M").isOK)
        try running.end()
    }

    /// The server dies between UPDATE_SIZE and the record, or cannot write it.
    @Test func `a device whose record knows another size is recovered with the one it has`() throws
    {
        let world = ServerWorld()
        world.recovery = .wait
        func orphan() throws -> DeviceRecord {
            let server = try world.server()
            let record = try server.bringUp()
            #expect(ControlAnswer(server.resize(try ResizeRequest(words: ["4M"]))).isOK)
            world.kill(server)
            return record
        }
        let stale = try orphan()
        #expect(stale.sizeBytes == Self.before)
        let server = try world.server(recovering: stale)
        let record = try server.bringUp()
        #expect(server.sizeBytes == 4 << 20 && record.sizeBytes == 4 << 20)
        #expect(record.driver?.params.sizeBytes == 4 << 20)
        #expect(record.settings == ["seed=7", "size=4194304"])
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `an IO behind the end of its store fails, whoever has made the device larger`()
        throws
    {
        let size: UInt64 = 1 << 20
        func step(_ op: IOOp, _ offset: UInt64, _ store: Store) -> StoreStep {
            var store = store
            var transfer = Transfer(
                op,
                store: 0,
                at: 0,
                length: op == .flush ? 0 : 4096,
                offset: offset
            )
            return store.begin(&transfer, .absent)
        }
        let memory = try MemoryStore(sizeBytes: size)
        let file = FileStore.View(writesThrough: false, file: 0, sizeBytes: size, dataBytes: 4096)
        for store in [Store.memory(memory.view), .file(file)] {
            for offset in [size, size - 512, UInt64.max - 511] {
                for op in [IOOp.read, .write, .discard, .writeZeroes] {
                    guard case .failed(let errno, let note) = step(op, offset, store) else {
                        Issue.record("\(op) at \(offset)")
                        continue
                    }
                    #expect(
                        errno == EIO
                            && "\(note)".contains("another program has made the device larger")
                    )
                }
            }
            // A flush may have any offset.
            if case .failed = step(.flush, .max - 511, store) { Issue.record("flush") }
            if case .failed = step(.discard, size - 4096, store) { Issue.record("the last block") }
        }
    }

    @Test func `a file that somebody else has enlarged keeps that when a resize fails`() throws {
        let running = try Running()
        unsafe truncate(running.world.disk, 8 << 20)
        running.world.driver.fail(.updateSize, .invalidArgument)
        #expect(try !running.resize("4M").isOK)
        #expect(running.fileBytes == 8 << 20 && running.server.sizeBytes == Self.before)
        try running.end()
    }

    @Test func `a file that may not be written does not grow, and is told`() throws {
        let scratch = ScratchDirectory()
        let path = scratch.file("disk.img")
        let newFiles = NewFiles()
        _ = try FileStore(path: path, sizeBytes: 4096, claim: .exclusive, newFiles: newFiles)
        let file = try FileStore(path: path, sizeBytes: nil, claim: .readOnly, newFiles: newFiles)
        #expect(try file.grow(to: 512) == nil)
        #expect { try file.grow(to: 8192) } throws: {
            "\($0)".contains("disk.img: ftruncate to 8192 bytes failed")
        }
    }

    @Test func `a script learns the end of its device at once`() throws {
        let resized = Promise<Bool>()
        let result = try simulate(
            """
            device { backing = "null" }
            local own = backing()
            function read() own:read(20 << 20, 4096) return fail("ENODATA") end
            """
        ) {
            $0.workload.weights = [.read: 1]
            $0.workload.requests = 1000
            $0.workload.rate = 100_000
            let size = DeviceSize(deviceBytes: 32 << 20, storeBytes: nil)
            $0.interventions = [
                .init(at: Instant(nanoseconds: 5_000_000), message: .resize(size, resized))
            ]
        }
        #expect(resized.wait(seconds: 0) == true)
        let first = result.outcomes.prefix { $0 == "EIO" }.count
        #expect(first > 100 && first < 900, "\(first)")
        #expect(result.outcomes.dropFirst(first).allSatisfy { $0 == "ENODATA" })
    }

    @Test func `rules that remember blocks reach as far as a device can grow`() throws {
        let counts = try #require(HistoryTable<UInt8>(deviceBytes: 1 << 20))
        defer { counts.free() }
        let last = DeviceConfig.reachBytes(of: 1 << 20) - 4096
        #expect(!counts.count(offset: last, length: 4096, nth: 2))
        #expect(counts.count(offset: last, length: 4096, nth: 2))
    }

    @Test func `rules of a script that a shrunk device loads reach as far as it can grow again`()
        throws
    {
        let reach: UInt64 = 1 << 42
        let shared = SharedObjects(queues: 1, reachBytes: reach)
        let counts = try #require(shared.counts(rule: 0, bank: 0, deviceBytes: 1 << 20))
        #expect(!counts.count(offset: reach - 4096, length: 4096, nth: 2))
        #expect(counts.count(offset: reach - 4096, length: 4096, nth: 2))
    }

    @Test func `how far a device can grow is 8 times its size, or 1T`() {
        // Powers of two.
        let reaches: [Int: Int] = [9: 40, 37: 40, 38: 41, 43: 46, 46: 46, 60: 60]
        for (size, reach) in reaches {
            #expect(DeviceConfig.reachBytes(of: UInt64(1) << size) == UInt64(1) << reach)
        }
    }
}
