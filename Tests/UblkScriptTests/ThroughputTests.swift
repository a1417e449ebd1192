import Testing

@testable import UblkScript

/// Requests over time: at a rate, and as a plot.
@Suite struct ThroughputTests {
    private func at(_ milliseconds: UInt64) -> Instant {
        Instant(nanoseconds: milliseconds * 1_000_000)
    }

    @Test func `each request is in the column of its time, however long the run gets`() {
        var counts = ThroughputCounts()
        for millisecond in 0..<1000 { counts.add(at: at(UInt64(millisecond))) }
        #expect(counts.columnNanoseconds == 16_000_000)
        #expect(counts.columns == Array(repeating: 16, count: 62) + [8])
        counts.add(at: at(1_000_000))
        #expect(counts.columns.count <= ThroughputCounts.columnsMax)
        #expect(counts.columns.reduce(0, +) == 1001 && counts.columns.last == 1)
    }

    @Test func `a plot has a blank for nothing and a full block for the most`() {
        #expect(ThroughputCounts.plot([0, 1, 50, 100]) == " ▁▄█")
        #expect(ThroughputCounts.plot([7, 7]) == "▁▁" || ThroughputCounts.plot([7, 7]) == "██")
        #expect(ThroughputCounts.plot([]) == "" && ThroughputCounts.plot([0, 0]) == "")
    }

    @Test(arguments: [1, 20, 5000] as [UInt64])
    func `a rate is kept as long as the device keeps up`(rate: UInt64) throws {
        let result = try simulate("") {
            $0.workload.requests = 2000
            $0.workload.rate = rate
        }
        let seconds = result.report.virtualSeconds
        #expect(abs(Double(rate) * seconds / 2000 - 1) < 0.1, "\(seconds) s")
    }

    @Test func `a stall shows in the plot`() throws {
        let result = try simulate("rule { after = \"10s\", before = \"20s\", hang = \"10s\" }") {
            $0.workload.requests = 4000
            $0.workload.rate = 100
        }
        let plot = ThroughputCounts.plot(result.report.throughput.requests)
        #expect(plot.contains("   "), "\(plot)")
    }
}
