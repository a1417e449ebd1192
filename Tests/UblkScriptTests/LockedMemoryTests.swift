import Glibc
import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// Memory that is there before the first IO, and a device that asks for it.
@Suite struct LockedMemoryTests {
    @Test(
        arguments: [
            (
                "7f00-7f10 r-xp 00000000 fe:00 42                         /usr/lib/libc.so.6",
                "7f00 false"
            ),
            ("7f00-7f10 rw-p 00000000 fe:00 42 /usr/bin/ublk-script", "7f00 true"),
            ("5500-5600 rw-p 00000000 00:00 0                          [heap]", "5500 true"),
            ("7f00-7f10 rw-p 00000000 00:00 0 ", nil), ("7f00-7f10 ---p 00000000 fe:00 42 /a", nil),
            ("7f00-7f10 r--s 00000000 00:05 9 /dev/ublkc0", nil),
            ("7f00-7f10 rw-s 00000000 00:0f 9 anon_inode:[io_uring]", nil),
            ("7f00-7f10 rw-p 00000000 00:05 9 /dev/zero (deleted)", nil),
            ("7ff0-7ff1 r-xp 00000000 00:00 0 [vdso]", nil), ("", nil), ("x-y r--p 0 0 0 /a", nil),
            ("7f10-7f10 r--p 0 0 0 /a", nil),
        ] as [(String, String?)]
    )
    func `programs, libraries and the heap are what is filled in`(line: String, expected: String?) {
        let mapping = LockedMemory.Mapping(line[...])
        let text = mapping.map { "\(String($0.first, radix: 16)) \($0.isWritable)" }
        #expect(text == expected)
    }

    @Test func `this program has mappings to fill in, and goes on`() {
        let maps = KernelTable.lines("/proc/self/maps") ?? []
        #expect(maps.contains { LockedMemory.Mapping($0) != nil })
        LockedMemory.populateProgram()
        #expect((LockedMemory.addressBytes ?? 0) > 1 << 20)
        #expect((LockedMemory.availableBytes ?? 0) > 1 << 20)
    }

    /// RUSAGE_THREAD, which Glibc's module does not have.
    private static let ofThread: Int32 = 1

    /// Page faults of this thread.
    private var faults: Int {
        var usage = rusage()
        unsafe getrusage(Self.ofThread, &usage)
        return usage.ru_minflt + usage.ru_majflt
    }

    @Test func `buffers and stores that are filled in cause no fault when they are used`() throws {
        let buffers = try TagBuffers(depth: 64, maxIOBytes: 64 << 10)
        let store = try MemoryStore(sizeBytes: 4 << 20, reachBytes: 1 << 40)
        try buffers.populate()
        try store.populate()
        var data = [UInt8](repeating: 7, count: 4 << 20)
        let before = faults
        unsafe data.withUnsafeMutableBytes { data in
            guard let first = data.baseAddress else { return }
            unsafe buffers.first.copyMemory(from: first, byteCount: data.count)
            unsafe store.view.write(at: 0, length: 4 << 20, from: first)
        }
        #expect(faults - before < 64, "\(faults - before) of 2048 pages")
        #expect(
            TagBuffers.byteCount(depth: 64, maxIOBytes: 64 << 10) == UInt64(64 * buffers.stride)
        )
    }

    @Test func `what is locked can be zeroed`() throws {
        guard (try? LockedMemory.lock()) != nil else { return }
        defer { munlockall() }
        let counts = try #require(HistoryTable<UInt8>(deviceBytes: 1 << 20))
        defer { counts.free() }
        #expect(!counts.count(offset: 0, length: 4096, nth: 2))
        counts.reset()
        #expect(!counts.count(offset: 0, length: 4096, nth: 2))
        let store = try MemoryStore(sizeBytes: 1 << 20)
        try store.populate()
        var bytes = [UInt8](repeating: 1, count: 8192)
        unsafe bytes.withUnsafeMutableBytes {
            guard let first = $0.baseAddress else { return }
            unsafe store.view.write(at: 0, length: 8192, from: first)
            store.view.clear(at: 4096, length: 4096)
            unsafe store.view.read(at: 0, length: 8192, into: first)
        }
        #expect(bytes == [UInt8](repeating: 1, count: 4096) + [UInt8](repeating: 0, count: 4096))
    }

    // MARK: A device that asks for it

    private let world = ServerWorld()
    private static let settings = ["seed=7", "lock_memory=true"]

    @Test func `memory is locked before the device is made, and only when that is asked for`()
        throws
    {
        let locks = Shared(0)
        let other = ServerWorld()
        for world in [world, other] {
            let driver = world.driver
            world.lockMemory = { () throws(Errno) in
                #expect(!driver.given.contains(.addDevice))
                locks.change { $0 += 1 }
            }
        }
        _ = try other.server()
        #expect(locks.value == 0)
        let server = try world.server(settings: Self.settings)
        #expect(locks.value == 1)
        _ = try server.bringUp()
        try server.takeDown(deletes: true, patienceSeconds: 5)
    }

    @Test func `what the machine has not got left is refused with the numbers`() throws {
        world.availableMemory = 8 << 20
        #expect {
            _ = try world.server(settings: Self.settings + ["depth=128", "max_io=1M"])
        } throws: {
            let text = "\($0)"
            return text.contains("(queues x depth x max_io)")
                && text.contains(" MiB for the data of IO")
                && text.contains("this machine has 8 MiB left. Ask for less")
        }
        #expect(world.leftovers().isEmpty)
        // A file is no memory.
        _ = try world.server(settings: Self.settings)
    }

    @Test func `who may not lock is told what it takes`() throws {
        world.lockMemory = { () throws(Errno) in throw .notPermitted }
        #expect {
            _ = try world.server(settings: Self.settings)
        } throws: {
            let text = "\($0)"
            return text.contains("mlockall failed (EPERM). It takes CAP_IPC_LOCK")
                && text.contains("See: ulimit -l unlimited")
        }
        #expect(world.leftovers().isEmpty)
    }
}
