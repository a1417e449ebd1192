import CLua

/// The settings that a queue is created with.
struct QueueConfiguration {
    let queue: QueueID
    let depth: Int
    var sizeBytes: UInt64
    let maxIOBytes: Int
    /// The device's stores by number as the queue begins with them; 0 is the device's own.
    let stores: [Store]
    var onError: DeviceConfig.ErrorPolicy
    /// The most CPU time that a handler may use between two waits.
    var budgetNanoseconds: UInt64
    /// The script's rules and the seed, as `ctl` and `stats` show them.
    var rules: [RuleLabel]
    let seed: UInt64
    /// Handlers are asked whether faults are armed or not: before that and after it, too, a device whose handlers say
    /// where its data is would lose some.
    var alwaysAsks: Bool
    /// True when the ledger records each IO that a handler redirects; a target redirects them all.
    var recordsMapping: Bool

    init(
        queue: QueueID,
        depth: Int,
        sizeBytes: UInt64,
        maxIOBytes: Int,
        stores: [Store],
        config: DeviceConfig,
        rules: [RuleLabel],
        seed: UInt64
    ) {
        self.queue = queue
        self.depth = depth
        self.sizeBytes = sizeBytes
        self.maxIOBytes = maxIOBytes
        self.stores = stores
        self.rules = rules
        self.seed = seed
        onError = config.onError
        budgetNanoseconds = config.budgetNanoseconds
        recordsMapping = config.recordsMapping || !config.isTarget
        alwaysAsks = config.isTarget
    }

    /// Adopts the settings that a reload may change.
    mutating func take(_ config: DeviceConfig) {
        onError = config.onError
        budgetNanoseconds = config.budgetNanoseconds
        recordsMapping = config.recordsMapping || !config.isTarget
    }
}

/// The events that a queue reports.
///
/// Called on the queue's thread; must not block.
protocol QueueReport: Sendable {
    /// A handler or a timer raised, or a handler returned something that is no verdict.
    func scriptFailed(_ error: ScriptError, _ io: IOSummary)
    /// Another script runs: messages that were suppressed as repeated are new again.
    func scriptChanged()
    /// An IO ended with an errno that neither a rule nor a handler decided; at most the first few are worth a line.
    ///
    /// - Parameter cause: ``QueueCounters/Kind/failures`` but script errors.
    func requestFailed(_ cause: QueueCounters.Kind, _ io: IOSummary, errno: Int32, _ note: String)
    /// `on_error = "stop"`: the device should be stopped.
    func wantsStop()
}

/// One IO in words: `read offset 4096 length 512 io 7`.
struct IOSummary: Sendable, CustomStringConvertible {
    let description: String

    /// The text in place of an IO for a function of `after()` or `every()`.
    static let timer = IOSummary(description: "timer")

    private init(description: String) { self.description = description }

    init(_ io: us_io) {
        let op = IOOp(rawValue: io.op)?.name ?? "op \(io.op)"
        description = "\(op) offset \(io.offset) length \(io.length) io \(io.sequence)"
    }
}
