/// The result of a simulation.
///
/// Plain data: the same script, settings and seed give an equal one.
struct SimulationReport: Codable, Equatable, Sendable {
    struct Count: Codable, Equatable, Sendable {
        let name: String
        let count: UInt64
    }

    struct RuleUse: Codable, Equatable, Sendable {
        let line: Int32
        /// The rule's name; "" without one.
        let name: String
        /// Number of IOs that the rule acted on.
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
        /// The time that one column stands for.
        let columnNanoseconds: UInt64
        /// Number of requests that ended in each column.
        let requests: [UInt64]
    }

    /// The reason for the end of the run.
    enum End: String, Codable, Sendable {
        /// Every request was made and answered.
        case finished
        /// All requests in flight were held without an end.
        case held
        /// A script error under `on_error = "stop"`.
        case stopped
        /// The run was interrupted by its observer.
        case interrupted
    }

    let script: String
    /// What the script says of a workload that shows what it does, when that was used; nil: it was not.
    var suggestedRun: String?
    let seed: UInt64
    let sizeBytes: UInt64
    let backing: String
    /// nil: one.
    let queues: Int?
    /// Requests in flight at a time.
    let depth: Int
    let end: End
    /// Requests that were held when nothing else could happen any more.
    let heldForEver: Int
    /// How many requests the application meant to make.
    ///
    /// nil: as many as there was time for.
    let requestsWanted: Int?
    /// Number of requests by op, and in all.
    let requests: [Count]
    /// Counts of what the script did to requests.
    let actions: [Count]
    /// The use of each rule, in file order.
    let rules: [RuleUse]
    /// Errnos the application saw, most frequent first.
    let errors: [Count]
    /// Result of comparing the data of reads; nil: it was not compared.
    let data: DataCheck?
    /// Result of reading back everything that was written, once faults were over; nil: it was not read back.
    var readBack: DataCheck?
    /// Blocks that a power loss took at the end though a flush or FUA had made them durable; nil: none.
    var powerLoss: DataCheck?
    var scriptErrors: ScriptErrors
    let virtualSeconds: Double
    /// The time that the server had a request.
    let latency: Latency
    let throughput: Throughput

    /// What makes a run a failure unless it is allowed.
    enum Problem: String, CaseIterable {
        case scriptErrors = "script-errors"
        case data
    }

    /// The reason why the run is a failure; nil: it is a success.
    func problem(_ allowed: Set<Problem>) -> String? {
        if scriptErrors.count > 0, !allowed.contains(.scriptErrors) {
            let times = scriptErrors.count == 1 ? "once" : "\(scriptErrors.count) times"
            return
                "the script raised \(times): \(scriptErrors.texts.first ?? "")\n"
                + "--allow script-errors takes that for success"
        }
        if differing > 0, !allowed.contains(.data) {
            let what = powerLoss?.differing == differing ? "made durable" : "acknowledged last"
            return "\(differing) blocks differ from what was \(what); "
                + "--allow data takes that for success"
        }
        return nil
    }

    /// Blocks that held something else than what was acknowledged last, or lost what was made durable.
    var differing: Int {
        (data?.differing ?? 0) + (readBack?.differing ?? 0) + (powerLoss?.differing ?? 0)
    }

    var requestCount: UInt64 { requests.reduce(0) { $0 + $1.count } }
}
