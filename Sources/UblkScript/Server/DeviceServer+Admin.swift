import Logging
import Synchronization

/// Answers to the requests that the server itself handles, and the state that ``ServerLoop`` polls.
///
/// Main thread.
extension DeviceServer: AdministeredDevice {
    var queues: [QueueControl] { contexts.map(\.control) }
    var budgetNanoseconds: UInt64 { plan.config.budgetNanoseconds }

    func answer(_ request: ServerRequest) -> AdminAnswer {
        switch request {
        case .statistics: .statistics(statistics)
        case .status: .status(status)
        case .reload(let request): reload(request)
        case .resize(let request): resize(request)
        case .ledger(let request): ledger(request)
        case .trace(let request): trace(request)
        case .reached(let milestone): report(on: milestone)
        case .takeDown(let deletes, let seconds):
            takeDown(seconds) { seconds throws(DeviceError) in
                try takeDown(deletes: deletes, patienceSeconds: seconds)
            }
        case .stopIfUnused(let seconds):
            takeDown(seconds) { seconds throws(DeviceError) in
                try stopIfUnused(patienceSeconds: seconds)
            }
        case .quiesce(let seconds):
            takeDown(seconds) { seconds throws(DeviceError) in
                try quiesce(patienceSeconds: seconds)
            }
        }
    }

    /// - Parameter patienceSeconds: nil: as the server was started.
    private func takeDown(
        _ patienceSeconds: Int?,
        _ body: (Int) throws(DeviceError) -> Void
    ) -> AdminAnswer {
        do throws(DeviceError) {
            try body(patienceSeconds ?? request.patienceSeconds)
            return .done(failureSummary ?? "")
        } catch {
            logger.error("\(error)")
            return .refused(AdminRefusal("\(error)"))
        }
    }

    /// The counters, summed over the queues, and what each rule did.
    private var statistics: DeviceStatistics {
        DeviceStatistics(
            id: id.rawValue,
            path: id.blockPath,
            script: request.source.shortName,
            seed: seed,
            operations: DeviceStatistics.operations(
                contexts.map { ($0.control.counters, $0.control.times) }
            ),
            counters: DeviceStatistics.counters(contexts.map(\.control.counters)),
            rules: rules.enumerated().map { ruleCounters.report($0, $1) }
        )
    }

    /// A handler raised an error, and the script's `on_error` is `"stop"`.
    var isStopWanted: Bool {
        contexts.contains { $0.control.wantsStop.load(ordering: .relaxed) }
    }

    var readableLines: Int32 { lines.readFD }
    func takeLines() -> [LinePipe.Line] { lines.takeLines() }
    var state: StateDirectory { request.state }
    var rules: [RuleLabel] { plan.rules }
    var seed: UInt64 { plan.seed }
}
