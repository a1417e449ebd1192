import CLua
import SystemPackage
import Testing

@testable import UblkScript

/// One plan per IO: its transfers at the same time or one after the other, and one end.
@Suite struct IOPlanTests {
    private static let fileNanoseconds = SimulatedTransport.fileNanoseconds

    /// A script whose writes go to `legs` of eight files.
    private func run(
        _ legs: String,
        _ requests: [SimulatedRequest],
        faults: FileFaults = FileFaults()
    ) throws -> Simulation.Result {
        let script = """
            local b = {}
            for i = 1, 8 do b[i] = backing { file = "/" .. i, size = "1M" } end
            local function legs(io, offset, length)
              local all
              for i = 1, 8 do
                local leg = \(legs)
                all = all and all + leg or leg
              end
              return all
            end
            write, discard = legs, legs
            function read(io, offset) return to(offset, b[1]) end
            """
        return try simulate(script, settings: ["size": "1M"]) {
            $0.workload = Workload(requests)
            $0.faults = faults
        }
    }

    @Test func `the legs of a mirror are written at the same time`() throws {
        let result = try run("to(offset, b[i])", [.write(0)])
        #expect(result.fileOperations == [.write: 8])
        #expect(result.report.latency.maxNanoseconds <= 3 * Self.fileNanoseconds)
    }

    @Test func `the parts of a stripe are read at the same time`() throws {
        let script = """
            local b = {}
            for i = 1, 8 do b[i] = backing { file = "/" .. i, size = "1M" } end
            function read(io)
              local all
              for i = 1, 8 do
                local leg = to(0, b[i], (i - 1) * 512, 512)
                all = all and all + leg or leg
              end
              return all
            end
            """
        let result = try simulate(script, settings: ["size": "1M"]) {
            $0.workload = Workload([.read(0)])
        }
        #expect(result.fileOperations == [.read: 8])
        #expect(result.report.latency.maxNanoseconds <= 3 * Self.fileNanoseconds)
    }

    @Test func `a flush of all stores is one of each at the same time`() throws {
        let result = try run("to(offset, b[i])", [.flush])
        #expect(result.fileOperations == [.sync: 8])
        #expect(result.report.latency.maxNanoseconds <= 3 * Self.fileNanoseconds)
        #expect(result.outcomes == [""])
    }

    @Test func `legs that meet in a store are written in their order`() throws {
        let result = try run("to(0, b[1], (i - 1) * 512, 512)", [.write(0)])
        #expect(result.fileOperations == [.write: 8])
        #expect(result.report.latency.maxNanoseconds >= 8 * Self.fileNanoseconds)
    }

    @Test(arguments: [0.0, 0.5, 0.9])
    func `transfers go on by themselves after short and interrupted operations`(
        chance: Double
    ) throws {
        let faults = FileFaults(shortChance: chance, retryChance: chance / 2)
        let result = try run(
            "to(offset, b[i])",
            (0..<50).map { .write(UInt64($0) * 16384, 16384) }
                + (0..<50).map { .read(UInt64($0) * 16384, 16384) },
            faults: faults
        )
        #expect(result.report.data?.differing == 0 && result.report.errors.isEmpty)
    }

    @Test func `an IO fails once, when all of its transfers are over`() throws {
        let result = try run(
            "to(offset, b[i])",
            [.write(0), .write(4096)],
            faults: FileFaults(failing: [.write: .noSpace])
        )
        #expect(result.outcomes == ["ENOSPC", "ENOSPC"])
        #expect(result.fileOperations[.write] == 16, "all had begun")
        #expect(result.action("backing_errors") == 2)
    }

    @Test func `after a failure nothing more of an ordered plan begins`() throws {
        let result = try run(
            "to(0, b[1], (i - 1) * 512, 512)",
            [.write(0)],
            faults: FileFaults(failing: [.write: .noSpace])
        )
        #expect(result.outcomes == ["ENOSPC"])
        #expect(result.fileOperations[.write] == 1)
    }

    /// Such an IO has no data, and may be longer than the room for it.
    @Test(arguments: [IOOp.discard, .writeZeroes])
    func `an IO without data goes to several files`(op: IOOp) throws {
        let name = op == .discard ? "discard" : "write_zeroes"
        let script = """
            local a, b = backing { file = "/a", size = "1M" }, backing { file = "/b", size = "1M" }
            function \(name)() return to(0, a, 0, MiB) + to(0, b, MiB, MiB) end
            function write(io, offset) return to(offset % MiB, offset < MiB and a or b) end
            function read(io, offset) return to(offset % MiB, offset < MiB and a or b) end
            """
        let last: UInt64 = (2 << 20) - 4096
        let result = try simulate(script, settings: ["size": "2M"]) {
            $0.workload = Workload(
                [
                    .write(last), SimulatedRequest(op: op, offsetBytes: 0, lengthBytes: 2 << 20),
                    .read(last),
                ],
                depth: 1
            )
        }
        #expect(result.report.errors.isEmpty && result.report.data?.differing == 0)
        #expect(result.fileOperations[op == .discard ? .punchHole : .zeroRange] == 2)
    }

    @Test func `nothing is stored of an IO one of whose places is past the end`() throws {
        let script = """
            local a, b = backing { size = "64K" }, backing { file = "/b", size = "64K" }
            rule { op = "write", verdict = to(0, b) + to("64K", a) }
            """
        let result = try simulate(script, settings: ["size": "1M"]) {
            $0.workload = Workload([.write(0)])
        }
        #expect(result.outcomes == ["EIO"])
        #expect(result.fileOperations.isEmpty)
        #expect(result.action("backing_errors") == 1)
    }

    @Test func `a torn write is no redirection`() throws {
        let result = try simulate(
            "rule { op = \"write\", verdict = fail(\"EIO\") + store { keep = \"random\", units = 2, unit = 512 } }"
        ) { $0.workload = Workload([.write(0, 8192)]) }
        #expect(result.outcomes == ["EIO"])
        #expect(result.action("torn") == 1 && result.action("failed") == 1)
        #expect(result.action("redirected") == 0)
    }

    // MARK: The planner alone

    private func plan(
        _ op: IOOp,
        _ decision: us_decision,
        segments: [us_segment] = [],
        stores: Int = 3,
        length: UInt64 = 8192
    ) -> (plan: IOPlan, transfers: [Transfer]) {
        var io = us_io()
        io.op = op.rawValue
        io.offset = op == .flush ? 0 : 4096
        io.length = op == .flush ? 0 : length
        let room = UnsafeMutablePointer<Transfer>.allocate(capacity: IOPlan.transfersMax)
        defer { unsafe room.deallocate() }
        let table = StoreTable(Array(repeating: .null(NullStore()), count: stores))
        return unsafe segments.withUnsafeBufferPointer { given in
            let none = UnsafeMutablePointer<us_segment>.allocate(capacity: 1)
            defer { unsafe none.deallocate() }
            var planner = unsafe Planner(
                op: op,
                io: io,
                decision: decision,
                segments: given.baseAddress ?? UnsafePointer(none),
                transfers: room,
                deviceBytes: 1 << 20
            )
            planner.make(table)
            let count = Int(planner.plan.count)
            return unsafe (planner.plan, Array(UnsafeBufferPointer(start: room, count: count)))
        }
    }

    @Test(arguments: IOOp.allCases)
    func `an IO that is to fail, or to be dropped, moves nothing`(op: IOOp) {
        var decision = us_decision()
        decision.outcome = UInt8(US_OUTCOME_FAIL.rawValue)
        decision.error = 5
        #expect(plan(op, decision).plan.count == 0 && plan(op, decision).plan.errno == 5)
        guard op != .read else { return }
        decision.outcome = UInt8(US_OUTCOME_DROP.rawValue)
        #expect(plan(op, decision).plan.count == 0 && plan(op, decision).plan.errno == 0)
        #expect(plan(op, decision).plan.healed == .nothing)
    }

    @Test(arguments: [1, 2, 16])
    func `a flush is one transfer a store, and everything else one`(stores: Int) {
        let flush = plan(.flush, us_decision(), stores: stores)
        #expect(flush.transfers.map(\.store) == (0..<UInt32(stores)).map { $0 })
        #expect(!flush.plan.isOrdered)
        let write = plan(.write, us_decision(), stores: stores)
        #expect(write.transfers.map { [$0.at, $0.length, $0.offset] } == [[0, 8192, 4096]])
    }

    @Test func `what keeps a part stores that part, whole or failing`() {
        for error in [0, 5] as [Int32] {
            var decision = us_decision()
            decision.error = error
            decision.outcome = UInt8(error == 0 ? 0 : US_OUTCOME_FAIL.rawValue)
            decision.store.keep = UInt8(US_STORE_SUFFIX.rawValue)
            decision.store.unit = 4096
            decision.store.units = 1
            let torn = plan(.write, decision)
            #expect(torn.transfers.map { [$0.at, $0.length, $0.offset] } == [[4096, 4096, 8192]])
            #expect(torn.plan.errno == error && torn.plan.healed == .run)
            #expect(torn.plan.run == 4096..<8192)
        }
    }
}
