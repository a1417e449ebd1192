import SystemPackage
import Testing

@testable import UblkScript

/// The oracle itself: what it must count and what it must let through.
@Suite struct SimulatorOracleTests {
    /// An oracle with a device of its own beside it, so that tests say what "the disk" does.
    @safe
    struct Bench: ~Copyable {
        // Safety: four buffers of a block, freed in deinit.
        var oracle = DataOracle(unitBytes: 512, depth: 4)
        let buffers = UnsafeMutableRawPointer.allocate(byteCount: 2048, alignment: 16)

        deinit { unsafe buffers.deallocate() }

        func buffer(_ tag: UInt16) -> UnsafeMutableRawPointer { unsafe buffers + Int(tag) * 512 }

        mutating func begin(_ tag: UInt16, _ request: SimulatedRequest) {
            unsafe oracle.begin(Int(tag), request, buffer(tag))
        }

        mutating func end(
            _ tag: UInt16,
            _ request: SimulatedRequest,
            _ outcome: BlockLayer.Outcome = .done
        ) { unsafe oracle.end(Int(tag), request, outcome, buffer(tag)) }

        /// The whole of a write; its data.
        mutating func write(_ outcome: BlockLayer.Outcome = .done) -> [UInt8] {
            begin(0, .write(0, 512))
            let data = content(0)
            end(0, .write(0, 512), outcome)
            return data
        }

        /// The whole of a read that brings `data`.
        mutating func read(_ data: [UInt8]) {
            begin(1, .read(0, 512))
            put(1, data)
            end(1, .read(0, 512))
        }

        func content(_ tag: UInt16) -> [UInt8] {
            unsafe Array(UnsafeRawBufferPointer(start: buffer(tag), count: 512))
        }

        func put(_ tag: UInt16, _ data: [UInt8]) {
            unsafe data.withUnsafeBytes { bytes in
                unsafe UnsafeMutableRawBufferPointer(start: buffer(tag), count: 512)
                    .copyMemory(from: bytes)
            }
        }
    }

    static let zeroes = [UInt8](repeating: 0, count: 512)

    @Test func `the last acknowledged write is what a read may bring, and nothing else`() {
        var bench = Bench()
        bench.read(Self.zeroes)
        let first = bench.write()
        bench.read(first)
        let second = bench.write()
        bench.read(second)
        #expect(bench.oracle.check.differing == 0)
        bench.read(first)
        bench.read(Self.zeroes)
        let check = bench.oracle.check
        #expect(check.stale == 1 && check.zeroes == 1 && check.differing == 2)
    }

    @Test func `data of nobody and data of elsewhere are told from old data`() {
        var bench = Bench()
        _ = bench.write()
        bench.begin(1, .read(0, 512))
        bench.end(1, .read(0, 512))  // the buffer is as it was
        #expect(bench.oracle.check.foreign == 1)
        bench.begin(2, .write(1024, 512))
        bench.read(bench.content(2))
        #expect(bench.oracle.check.foreign == 2)
    }

    @Test func `of two overlapping writes either may win`() {
        var bench = Bench()
        bench.begin(2, .write(0, 512))
        bench.begin(3, .write(0, 512))
        let (first, second) = (bench.content(2), bench.content(3))
        bench.end(3, .write(0, 512))
        bench.end(2, .write(0, 512))
        bench.read(first)
        bench.read(second)
        #expect(bench.oracle.check.differing == 0)
        bench.read(Self.zeroes)
        #expect(bench.oracle.check.zeroes == 1)
        // A later write ends the choice.
        bench.read(bench.write())
        bench.read(first)
        #expect(bench.oracle.check.stale == 1)
    }

    @Test func `a read that overlaps a write may bring either`() {
        var bench = Bench()
        let old = bench.write()
        bench.begin(1, .read(0, 512))
        bench.put(1, old)
        _ = bench.write()
        bench.end(1, .read(0, 512))
        #expect(bench.oracle.check.differing == 0)
        bench.read(old)
        #expect(bench.oracle.check.stale == 1)
    }

    @Test func `a failed write may have happened or not`() {
        var bench = Bench()
        let old = bench.write()
        let failed = bench.write(.failed(.ioError))
        bench.read(old)
        bench.read(failed)
        #expect(bench.oracle.check.differing == 0)
    }

    @Test func `a discard leaves old data or zeroes, write zeroes leaves zeroes`() {
        var bench = Bench()
        let old = bench.write()
        for _ in 0..<3 {
            bench.begin(2, .discard(0, 512))
            bench.end(2, .discard(0, 512))
        }
        bench.read(old)
        bench.read(Self.zeroes)
        #expect(bench.oracle.check.differing == 0)
        bench.begin(2, .writeZeroes(0, 512))
        bench.end(2, .writeZeroes(0, 512))
        bench.read(Self.zeroes)
        #expect(bench.oracle.check.differing == 0)
        bench.read(old)
        #expect(bench.oracle.check.stale == 1)
    }

    @Test func `a block of two writes is torn unless both may be there`() {
        var bench = Bench()
        let old = bench.write()
        let new = bench.write()
        bench.read(Array(old.prefix(256) + new.suffix(256)))
        #expect(bench.oracle.check.torn == 1)
        bench.begin(2, .write(0, 512))
        bench.read(Array(new.prefix(256) + bench.content(2).suffix(256)))
        #expect(bench.oracle.check.differing == 1)
    }
}
