/// What came of a simulation.
///
/// Plain data: the same script, settings and seed give an equal one.
struct SimulationReport: Codable, Equatable, Sendable {
    struct Count: Codable, Equatable, Sendable {
        let name: String
        let count: UInt64
    }

    struct RuleUse: Codable, Equatable, Sendable {
        let line: Int32
        /// "" without one.
        let name: String
        /// How many IOs the rule acted on.
        let acted: UInt64
    }

    struct ScriptErrors: Codable, Equatable, Sendable {
        var count = 0
        /// The first few different ones.
        var texts: [String] = []
    }

    struct Latency: Codable, Equatable, Sendable {
        let medianNanoseconds: UInt64
        let p99Nanoseconds: UInt64
        let maxNanoseconds: UInt64
    }

    struct Throughput: Codable, Equatable, Sendable {
        /// How long one column is.
        let columnNanoseconds: UInt64
        /// Requests that ended in each.
        let requests: [UInt64]
    }

    /// Why the run was over.
    enum End: String, Codable, Sendable {
        /// Every request was made and answered.
        case finished
        /// All requests in flight were held without an end.
        case held
        /// A script error under `on_error = "stop"`.
        case stopped
        /// Somebody had seen enough.
        case interrupted
    }

    let script: String
    /// What the script says of a workload that shows what it does, when that was used; nil: it was not.
    var suggestedRun: String?
    let seed: UInt64
    let sizeBytes: UInt64
    let backing: String
    let depth: Int
    let end: End
    /// Requests that were held when nothing else could happen any more.
    let heldForEver: Int
    /// How many requests the application meant to make.
    ///
    /// nil: as many as there was time for.
    let requestsWanted: Int?
    /// Requests by op, and in all.
    let requests: [Count]
    /// What the script did to them.
    let actions: [Count]
    /// One a rule, in file order.
    let rules: [RuleUse]
    /// Errnos the application saw, most frequent first.
    let errors: [Count]
    /// nil: data was not compared.
    let data: DataCheck?
    /// Of everything that was written, read at the end, when faults were over; nil: it did not come to that.
    var readBack: DataCheck?
    var scriptErrors: ScriptErrors
    let virtualSeconds: Double
    /// How long the server kept a request.
    let latency: Latency
    let throughput: Throughput

    /// What makes a run a failure unless it is allowed.
    enum Problem: String, CaseIterable {
        case scriptErrors = "script-errors"
        case data
    }

    /// Why the run is no success; nil: it is.
    func problem(_ allowed: Set<Problem>) -> String? {
        if scriptErrors.count > 0, !allowed.contains(.scriptErrors) {
            let times = scriptErrors.count == 1 ? "once" : "\(scriptErrors.count) times"
            return
                "the script raised \(times): \(scriptErrors.texts.first ?? "")\n"
                + "--allow script-errors takes that for success"
        }
        if differing > 0, !allowed.contains(.data) {
            return "\(differing) blocks differ from what was acknowledged last; "
                + "--allow data takes that for success"
        }
        return nil
    }

    /// Blocks that held something else than what was acknowledged last.
    var differing: Int { (data?.differing ?? 0) + (readBack?.differing ?? 0) }

    var requestCount: UInt64 { requests.reduce(0) { $0 + $1.count } }
}
