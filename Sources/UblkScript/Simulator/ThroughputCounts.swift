/// How many requests ended in each stretch of the run: as many columns as a terminal has room for.
///
/// The length of a run is not known before, so when it outgrows the columns each two become one.
struct ThroughputCounts: Sendable {
    static let columnsMax = 64
    private(set) var columns: [UInt64] = []
    private(set) var columnNanoseconds: UInt64 = 1_000_000

    /// A request has ended; times do not go back.
    mutating func add(at now: Instant) {
        while now.nanoseconds / columnNanoseconds >= Self.columnsMax { halve() }
        let column = Int(now.nanoseconds / columnNanoseconds)
        while columns.count <= column { columns.append(0) }
        columns[column] += 1
    }

    private mutating func halve() {
        columns = stride(from: 0, to: columns.count, by: 2).map { first in
            columns[first] + (first + 1 < columns.count ? columns[first + 1] : 0)
        }
        columnNanoseconds *= 2
    }

    /// Draws one character per column: a blank for none, a full block for the largest.
    static func plot(_ columns: [UInt64]) -> String {
        let blocks = Array(" ▁▂▃▄▅▆▇█")
        let most = columns.max() ?? 0
        guard most > 0 else { return "" }
        return String(
            columns.map { count in
                count == 0 ? " " : blocks[1 + Int((count - 1) * 7 / max(1, most - 1))]
            }
        )
    }
}
