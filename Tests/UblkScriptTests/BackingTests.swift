import SystemPackage
import Testing

@testable import UblkScript

@Suite struct BackingTests {
    // MARK: Files, through the queue

    private func onFile(
        _ faults: FileFaults,
        settings: [String: String] = [:],
        _ change: (inout Simulation) -> Void = { _ in }
    ) throws -> Simulation.Result {
        try simulate("", settings: settings.merging(["file": "f"]) { given, _ in given }) {
            $0.faults = faults
            $0.workload.blockBytesMax = 16384
            change(&$0)
        }
    }

    @Test(arguments: [0.0, 0.1, 0.9])
    func `short transfers are finished`(chance: Double) throws {
        let result = try onFile(FileFaults(shortChance: chance))
        #expect(result.report.data?.differing == 0)
        #expect(result.report.errors == [])
    }

    @Test(arguments: [0.0, 0.1, 0.9])
    func `interrupted operations are sent again`(chance: Double) throws {
        let result = try onFile(FileFaults(retryChance: chance))
        #expect(result.report.data?.differing == 0)
        #expect(result.report.errors == [])
    }

    @Test func `everything at once is survived`() throws {
        var faults = FileFaults(shortChance: 0.5, retryChance: 0.3)
        faults.refused = [.zeroRange: .notSupported, .punchHole: .notSupported]
        let result = try onFile(faults)
        #expect(result.report.data?.differing == 0)
        #expect(result.report.errors == [])
    }

    private static let zeroings = Workload(
        [.write(0), .write(4096), .writeZeroes(0), .writeZeroes(4096), .read(0), .read(4096)]
            + [
                SimulatedRequest(
                    op: .writeZeroes,
                    flags: .noUnmap,
                    offsetBytes: 8192,
                    lengthBytes: 1 << 20
                )
            ]
    )

    @Test func `zeroes are a zero range`() throws {
        let result = try onFile(FileFaults()) { $0.workload = Self.zeroings }
        #expect(result.fileOperations == [.write: 2, .zeroRange: 3, .read: 2])
        #expect(result.report.data?.differing == 0)
    }

    @Test(arguments: [Errno.notSupported, .invalidArgument])
    func `zeroes are a hole where zero range is refused, and it is asked once`(errno: Errno) throws
    {
        let result = try onFile(FileFaults(refused: [.zeroRange: errno])) {
            $0.workload = Self.zeroings
        }
        // A hole is no answer to a request that must keep its blocks: 1 MiB in pieces of 512 KiB.
        #expect(result.fileOperations == [.write: 4, .zeroRange: 1, .punchHole: 2, .read: 2])
        #expect(result.report.data?.differing == 0)
        #expect(result.outcomes.allSatisfy { $0 == "" })
    }

    @Test func `zeroes are written by hand where nothing else works`() throws {
        let refused: [FileOperation.Kind: Errno] = [
            .zeroRange: .notSupported, .punchHole: .notSupported,
        ]
        let result = try onFile(FileFaults(refused: refused)) { $0.workload = Self.zeroings }
        #expect(result.fileOperations == [.write: 6, .zeroRange: 1, .punchHole: 1, .read: 2])
        #expect(result.report.data?.differing == 0)
        #expect(result.outcomes.allSatisfy { $0 == "" })
    }

    @Test func `a failure of zero range that is no refusal is the application's`() throws {
        let result = try onFile(FileFaults(failing: [.zeroRange: .noSpace])) {
            $0.workload = Workload([.writeZeroes(0)])
        }
        #expect(result.outcomes == ["ENOSPC"])
        #expect(result.fileOperations == [.zeroRange: 1])
    }

    @Test func `a discard may be refused`() throws {
        let result = try onFile(FileFaults(refused: [.punchHole: .notSupported])) {
            $0.workload = Workload([.write(0), .discard(0), .read(0)])
        }
        #expect(result.outcomes == ["", "", ""])
        #expect(result.action("backing_errors") == 0)
    }

    @Test(arguments: [(Errno.ioError, "EIO"), (.noSpace, "ENOSPC"), (.permissionDenied, "EIO")])
    func `an error of the file is the application's, as the block layer knows it`(
        errno: Errno,
        seen: String
    ) throws {
        let result = try onFile(FileFaults(failing: [.write: errno])) {
            $0.workload = Workload([.write(0), .read(0)])
        }
        #expect(result.outcomes == [seen, ""])
        #expect(result.action("backing_errors") == 1)
    }

    @Test func `a file that ends early is an error`() throws {
        let result = try onFile(FileFaults(endBytes: 6144)) {
            $0.workload = Workload([.read(0), .read(4096), .read(8192)])
        }
        #expect(result.outcomes == ["", "EIO", "EIO"])
    }

    @Test func `a flush is a sync and FUA is durable`() throws {
        let fua = SimulatedRequest(op: .write, flags: .fua, offsetBytes: 0, lengthBytes: 4096)
        let result = try onFile(FileFaults()) { $0.workload = Workload([.write(0), fua, .flush]) }
        #expect(result.fileOperations == [.write: 1, .writeDurably: 1, .sync: 1])
    }

    @Test func `without a cache every write is durable, zeroes by hand too`() throws {
        let refused: [FileOperation.Kind: Errno] = [
            .zeroRange: .notSupported, .punchHole: .notSupported,
        ]
        let result = try onFile(FileFaults(refused: refused), settings: ["cache": "none"]) {
            $0.workload = Workload([.write(0), .writeZeroes(0)])
        }
        #expect(result.fileOperations[.write] == nil)
        #expect(result.fileOperations[.writeDurably] == 2)
    }

    @Test func `a redirected write and its read meet in the file`() throws {
        let result = try simulate(
            """
            function write(io, offset) if offset == 4096 then return to(0) end end
            function read(io, offset) if offset == 4096 then return to(0) end end
            """,
            settings: ["file": "f"]
        ) {
            $0.faults = FileFaults(shortChance: 0.9)
            $0.workload = Workload([.write(4096), .read(4096), .read(8192)])
        }
        #expect(result.report.data?.differing == 0)
        #expect(result.action("redirected") == 2)
    }

    // MARK: Memory

    @Test func `memory is zero until written and zero again when cleared`() throws {
        let store = try MemoryStore(sizeBytes: 1 << 20)
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: 65536, alignment: 16)
        defer { unsafe bytes.deallocate() }
        func read(_ offset: UInt64, _ length: Int) -> [UInt8] {
            unsafe store.view.read(at: offset, length: UInt64(length), into: bytes)
            return unsafe Array(UnsafeRawBufferPointer(start: bytes, count: length))
        }
        #expect(read(0, 65536).allSatisfy { $0 == 0 })
        // Whole pages, parts of pages at both ends, within a page, nothing.
        for (offset, length) in [(8192, 8192), (8704, 20480), (4608, 512), (12288, 0), (512, 4096)]
        {
            unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0xee, count: 65536)
            unsafe store.view.write(at: 0, length: 65536, from: bytes)
            store.view.clear(at: UInt64(offset), length: UInt64(length))
            let expected = (0..<65536).map { (offset..<offset + length).contains($0) ? 0 : 0xee }
            #expect(read(0, 65536).map(Int.init) == expected, "\(offset) + \(length)")
        }
    }

    @Test func `an access beyond the end of memory stops the program`() async {
        await #expect(processExitsWith: .failure) {
            let store = try MemoryStore(sizeBytes: 1 << 20)
            store.view.clear(at: 1 << 20, length: 1)
        }
        await #expect(processExitsWith: .failure) {
            let store = try MemoryStore(sizeBytes: 1 << 20)
            store.view.clear(at: .max - 1, length: 4)
        }
    }

    @Test func `memory grows in its place, keeps what it has, and is zero beyond`() throws {
        let store = try MemoryStore(sizeBytes: 4096 + 512, reachBytes: 1 << 30)
        let before = store.view
        var byte: UInt8 = 0xee
        unsafe before.write(at: 4096 + 511, length: 1, from: &byte)
        try store.grow(to: 1 << 20)
        #expect(store.sizeBytes == 1 << 20 && store.view.isSame(as: before))
        #expect(before.sizeBytes == 4096 + 512)
        var read: [UInt8] = [1, 1]
        unsafe read.withUnsafeMutableBytes {
            unsafe store.view.read(at: 4096 + 511, length: 2, into: $0.baseAddress!)
        }
        #expect(read == [0xee, 0])
        unsafe store.view.write(at: (1 << 20) - 1, length: 1, from: &byte)
        // Never smaller.
        try store.grow(to: 4096)
        #expect(store.sizeBytes == 1 << 20)
        #expect(throws: MemoryStore.NoMemory.self) { try store.grow(to: (1 << 30) + 512) }
        #expect(throws: MemoryStore.NoMemory.self) {
            try MemoryStore(sizeBytes: 4096).grow(to: 8192)
        }
    }

    @Test func `memory of no size is refused`() {
        #expect(throws: MemoryStore.NoMemory.self) { try MemoryStore(sizeBytes: 0) }
        #expect(throws: MemoryStore.NoMemory.self) { try MemoryStore(sizeBytes: 1 << 60) }
    }
}
