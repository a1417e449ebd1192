import Testing

@testable import UblkScript

/// Workloads that are read from files: lists of requests, and what is understood of fio's jobs.
@Suite struct WorkloadFileTests {
    private func workload(
        _ text: String,
        depth: Int? = nil,
        device: String = "device { size = \"16M\" }"
    ) throws -> Workload {
        let source = ScriptSource(path: "test.lua", text: device)
        let plan = try LoadedScript.plan(source)
        return try WorkloadFile(name: "w.txt", text: text).workload(
            depth: depth,
            config: plan.config,
            sizeBytes: try #require(plan.config.sizeBytes)
        )
    }

    private func refusal(_ text: String, device: String = "device { size = \"16M\" }") -> String? {
        do {
            _ = try workload(text, device: device)
            return nil
        } catch { return "\(error)" }
    }

    // MARK: Requests

    @Test func `a line is a request, with its time and its flags`() throws {
        let text = """
            # a comment

            write 1M 4K meta swap
              read\t4096   512   # to the end of the line
            @1.5ms discard 0 64K
            write_zeroes 8s 8s nounmap\r
            @2s flush
            """
        let cached = "device { size = \"16M\", cache = \"volatile\" }"
        let workload = try workload(text, device: cached)
        let early = SimulatedRequest.Start.after(Instant(nanoseconds: 1_500_000))
        #expect(workload.requests == 5 && workload.depth == 1)
        #expect(
            workload.list == [
                SimulatedRequest(
                    op: .write,
                    flags: IOFlags(rawValue: 1 << 11 | 1 << 16),
                    offsetBytes: 1 << 20,
                    lengthBytes: 4096
                ),
                SimulatedRequest(op: .read, offsetBytes: 4096, lengthBytes: 512),
                SimulatedRequest(
                    op: .discard,
                    lengthBytes: 65536,
                    start: .at(Instant(nanoseconds: 1_500_000))
                ),
                SimulatedRequest(
                    op: .writeZeroes,
                    flags: .noUnmap,
                    offsetBytes: 4096,
                    lengthBytes: 4096,
                    start: early
                ),
                SimulatedRequest(op: .flush, start: .at(Instant(nanoseconds: 2_000_000_000))),
            ]
        )
        #expect(try self.workload("read 0 4K", depth: 8).depth == 8)
    }

    @Test func `requests are made in order and at their times`() throws {
        let text = """
            write 0 4K
            @1s read 0 4K
            read 4K 4K
            @5s read 8K 4K
            """
        for depth in [1, 8] {
            let listed = try workload(text, depth: depth)
            let result = try simulate("rule { op = \"write\", delay = \"3s\" }") {
                $0.workload = listed
            }
            let times = result.finished.sorted { $0.sentAt < $1.sentAt }.map {
                Double($0.sentAt.nanoseconds / 100_000_000) / 10
            }
            // One place for a request is taken for three seconds.
            #expect(times == (depth == 1 ? [0, 3, 3, 5] : [0, 1, 1, 5]))
            #expect(result.report.end == .finished)
        }
    }

    @Test(arguments: [
        ("", "w.txt: there is no request in it; a line such as"),
        ("# nothing", "w.txt: there is no request in it; a line such as"),
        (
            "read 0 4K\nrewind 0 4K",
            "w.txt:2: \"rewind 0 4K\": one of read, write, flush, discard, write_zeroes is expected"
        ),
        ("\nread 0", "w.txt:2: \"read 0\": an offset and a length are expected, as in read 1M 4K"),
        ("read 0 4Q", "w.txt:1: \"read 0 4Q\": an offset and a length are expected"),
        ("read -1 4K", "w.txt:1: \"read -1 4K\": an offset and a length are expected"),
        (
            "read 0 4K fast",
            "w.txt:1: fast: one of the flags meta, fua, failfast, nounmap, swap is expected"
        ),
        ("flush 0 4K", "w.txt:1: 0: one of the flags"),
        ("@soon read 0 4K", "w.txt:1: @soon: a time such as @1.5ms or @10s is expected"),
        ("@2s read 0 4K\n@1s read 0 4K", "w.txt:2: @1s: it is before the time of a line above"),
        ("@2s", "w.txt:1: \"@2s\": one of read, write"),
        ("@1s @2s read 0 4K", "w.txt:1: \"@1s @2s read 0 4K\": one of read, write"),
        (
            "read 0 100",
            "w.txt:1: read 0 100: offset and length are whole blocks of 512 bytes, at least one"
        ),
        ("read 16M 4K", "w.txt:1: read 16777216 4096: it ends past the device's 16777216 bytes"),
        (
            "read 0 4K\nread 0 1M",
            "w.txt:2: read 0 1048576: the device takes at most 524288 bytes at a time"
        ),
        (
            "flush",
            "w.txt:1: flush: the device has no volatile cache, so the kernel sends it no flush"
        ),
        ("write 0 4K fua", "w.txt:1: write 0 4096: the device takes no fua"),
        // fio
        ("[a]\nrw=fast", "w.txt:2: rw = \"fast\": one of \"read\", \"write\", \"rw\""),
        (
            "[a]\nioengine=libaio",
            "w.txt:2: ioengine: not known here. Known are: rw, bs, iodepth, size, offset, number_ios, rate_iops, randseed, rwmixread"
        ),
        ("[a]\nbs=100", "w.txt:2: bs = \"100\": a size from 512 to 512K"),
        ("[a]\nbs=1m", "w.txt:2: bs = \"1M\": a size from 512 to 512K"),
        ("[a]\nbs=600", "w.txt:2: bs = 600: whole blocks of 512 bytes are expected"),
        ("[a]\niodepth=0", "w.txt:2: iodepth = \"0\": "),
        ("[a]\niodepth", "w.txt:2: iodepth = \"\": "),
        ("[a]\nsize=17m", "w.txt:2: size = \"17M\": a size from 4K to 16M"),
        ("[a]\noffset=8m\nsize=9m", "w.txt:3: size = \"9M\": a size from 4K to 8M"),
        ("[a]\nrwmixread=101", "w.txt:2: rwmixread = \"101\": "),
        ("[a]\nnumber_ios=0", "w.txt:2: number_ios = \"0\": "),
        ("[a]\nrw=read\n[b]", "w.txt:3: [b]: one job is expected, and the one of line 1 is it"),
        ("[global]\nrw=read", "w.txt: there is no job in it; a section as in [job] is expected"),
        ("[a", "w.txt:1: [a: a section as in [job] is expected"),
        ("[a]\nread 0 4K", "w.txt:2: read 0 4K: not known here"),
    ])
    func `what is wrong in a file is refused with its line`(text: String, why: String) {
        let refusal = refusal(text)
        #expect(refusal?.hasPrefix(why) == true, "\(refusal ?? "it was taken")")
    }

    @Test func `a device that cannot be written refuses writes`() {
        let device = "device { size = \"16M\", read_only = true }"
        #expect(refusal("write 0 4K", device: device)?.hasSuffix("the device is read-only") == true)
        #expect(
            refusal("[a]\nrw=rw", device: device) == "w.txt:2: rw = rw: the device is read-only"
        )
        #expect(refusal("read 0 4K", device: device) == nil)
        #expect(refusal("[a]\nrw=randread", device: device) == nil)
    }

    // MARK: fio

    @Test func `a job has its keys, else those of global, else fio's own`() throws {
        let text = """
            ; comment
            [global]
            bs=8k
            iodepth = 4
            rw=randrw

            [job one]
            rw=randread
            offset=1m
            size=2MiB
            rate_iops=500
            randseed=7
            """
        let job = try workload(text)
        #expect(job.weights == [.read: 1] && job.pattern == .random)
        #expect(job.blockBytes == 8192 && job.depth == 4 && job.rate == 500 && job.seed == 7)
        #expect(job.offsetBytes == 1 << 20 && job.spanBytes == 2 << 20 && job.requests == 256)
        let usual = try workload("[a]")
        #expect(usual.weights == [.read: 1] && usual.pattern == .sequential)
        #expect(usual.blockBytes == 4096 && usual.depth == 1 && usual.requests == 4096)
        let mixed = try workload("[a]\nrw=rw\nrwmixread=70\nnumber_ios=10")
        #expect(mixed.weights == [.read: 70, .write: 30] && mixed.requests == 10)
    }

    @Test func `a job keeps to its part of the device, and its seed makes its places`() throws {
        func places(_ seed: Int) throws -> [UInt64] {
            let text = "[a]\nrw=randwrite\noffset=4m\nsize=1m\nnumber_ios=500\nrandseed=\(seed)"
            let job = try workload(text)
            let result = try simulate("") { $0.workload = job }
            #expect(result.report.data?.differing == 0 && result.finished.count == 500)
            return result.finished.map(\.request.offsetBytes)
        }
        let first = try places(1)
        #expect(first.allSatisfy { (4 << 20..<5 << 20).contains($0) })
        #expect(Set(first).count > 100)
        #expect(try places(1) == first)
        #expect(try places(2) != first)
    }

    @Test func `a sequential job goes through its part in order, round and round`() throws {
        let text = "[a]\nrw=write\nbs=256k\noffset=4m\nsize=1m\nnumber_ios=6"
        let job = try workload(text)
        let result = try simulate("") { $0.workload = job }
        #expect(result.finished.map { $0.request.offsetBytes >> 18 } == [16, 17, 18, 19, 16, 17])
    }
}
