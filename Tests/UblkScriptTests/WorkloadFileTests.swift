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
            "w.txt:2: \"rewind 0 4K\": one of read, write, flush, discard, write_zeroes, ctl, mark, wait is expected"
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
            "[a]\nthinktime=5",
            "w.txt:2: thinktime: not known here. Known are: rw, bs, iodepth, numjobs, size, offset, number_ios, rate_iops, randseed, rwmixread"
        ),
        ("[a]\nbs=100", "w.txt:2: bs = \"100\": a size from 512 to 512K"),
        ("[a]\nbs=1m", "w.txt:2: bs = \"1M\": a size from 512 to 512K"),
        ("[a]\nbs=600", "w.txt:2: bs = 600: whole blocks of 512 bytes are expected"),
        ("[a]\niodepth=0", "w.txt:2: iodepth = \"0\": "),
        ("[a]\niodepth", "w.txt:2: iodepth = \"\": "),
        ("[a]\nsize=17m", "w.txt:2: size = \"17M\": a size from 4K to 16M"),
        ("[a]\noffset=8m\nsize=9m", "w.txt:3: size = \"9M\": a size from 4K to 8M"),
        ("[a]\nrwmixread=101", "w.txt:2: rwmixread = \"101\": "),
        ("[a]\nnumjobs=0", "w.txt:2: numjobs = \"0\": "),
        ("read 0 4K\nwait", "w.txt:2: wait: a time is expected, as in wait 10s"),
        ("read 0 4K\nwait soon", "w.txt:2: wait: a time is expected"),
        ("mark\nread 0 4K", "w.txt:1: mark: a name is expected"),
        ("ctl\nread 0 4K", "w.txt:1: ctl: a word is expected"),
        ("ctl stats\nread 0 4K", "w.txt:1: ctl stats is for a device that runs"),
        ("ctl reload x\nread 0 4K", "w.txt:1: ctl reload is for a device that runs"),
        ("ctl rule of x\nread 0 4K", "w.txt:1: rule: \"rule\", \"rule on NAME\" or"),
        ("mark a b\nread 0 4K", "w.txt:1: mark: a name is expected"),
        ("read 0 4K\nctl held 3", "w.txt:2: held takes no argument, and \"3\" is one"),
        ("ctl release sideways\nread 0 4K", "w.txt:1: release: \"sideways\" is no order"),
        ("wait 5s", "w.txt: there is no request in it"),
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

    @Test func `keys of fio that mean nothing here are taken, with one note about all`() throws {
        let text = """
            [global]
            ioengine=libaio
            direct=1
            [a]
            group_reporting
            filename=/dev/sdx
            bs=8k
            verify = crc32c
            """
        let file = try WorkloadFile(name: "w.txt", text: text)
        #expect(
            file.note
                == "w.txt: these mean nothing here: ioengine (line 2), direct (line 3), "
                + "group_reporting (line 5), filename (line 6), verify (line 8)"
        )
        #expect(try workload(text).blockBytes == 8192)
        #expect(try WorkloadFile(name: "w.txt", text: "[a]\nbs=8k").note == nil)
        #expect(try WorkloadFile(name: "w.txt", text: "read 0 4K").note == nil)
    }

    @Test func `numjobs is so many streams, each with its own places`() throws {
        let text =
            "[a]\nrw=read\nbs=256k\nsize=1m\nnumber_ios=4\niodepth=2\nnumjobs=3\nrate_iops=100"
        let job = try workload(text)
        #expect(job.requests == 12 && job.depth == 6 && job.rate == 300)
        let result = try simulate("") { $0.workload = job }
        let places = result.finished.map { $0.request.offsetBytes >> 18 }
        #expect(places.sorted() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
        let random = try workload("[a]\nrw=randread\nnumber_ios=100\nnumjobs=2")
        let drawn = try simulate("") { $0.workload = random }.finished.map(\.request.offsetBytes)
        #expect(drawn.count == 200 && Set(drawn).count > 150)
    }

    // MARK: What is done between requests

    private static let growing = """
        device { size = "16M" }
        local bad = ranges("bad")
        rule { op = "read", range = bad, error = "ENODATA" }
        rule { op = "write", after = { mark = "go" }, error = "ENOSPC" }
        function ctl(word, offset)
          if word == "addbad" then bad:add(offset, "4K") return "added" end
          error("what?")
        end
        """

    @Test(arguments: [1, 8])
    func `words of ctl, marks and waits come between the requests they stand between`(depth: Int)
        throws
    {
        let text = """
            read 0 4K
            wait 1s
            ctl addbad 0
            read 0 4K
            @5s read 4K 4K
            write 0 4K
            @6s mark go
            write 0 4K
            ctl ranges bad clear
            wait 4s
            read 0 4K
            wait 1h
            ctl addbad 8K
            """
        let listed = try workload(text, depth: depth)
        let result = try simulate(Self.growing) { $0.workload = listed }
        let finished = result.finished.sorted { $0.sentAt < $1.sentAt }
        #expect(finished.map { $0.outcome == .done } == [true, false, true, true, false, true])
        let times = finished.map { Double($0.sentAt.nanoseconds / 100_000_000) / 10 }
        #expect(times == [0, 1, 5, 5, 6, 10])
        #expect(result.report.end == .finished && result.report.virtualSeconds >= 3600)
    }

    @Test func `what is held is let go by a line of the file`() throws {
        let listed = try workload("read 0 4K\nwait 2s\nctl release EIO\n", depth: 2)
        let result = try simulate("rule { op = \"read\", hang = true }") { $0.workload = listed }
        #expect(result.report.end == .finished)
        #expect(result.finished.map { $0.nanoseconds / 1_000_000_000 } == [1])
    }

    @Test func `a word that the device refuses ends the run with its line`() throws {
        let listed = try workload("read 0 4K\nctl burn\nread 0 4K")
        #expect { try simulate(Self.growing) { $0.workload = listed } } throws: {
            "\($0)".hasPrefix("w.txt:2: ctl burn: ")
        }
    }

    @Test func `a sequential job goes through its part in order, round and round`() throws {
        let text = "[a]\nrw=write\nbs=256k\noffset=4m\nsize=1m\nnumber_ios=6"
        let job = try workload(text)
        let result = try simulate("") { $0.workload = job }
        #expect(result.finished.map { $0.request.offsetBytes >> 18 } == [16, 17, 18, 19, 16, 17])
    }
}
