/// A device to which admin requests can be sent: that of a server, or a simulated one.
protocol AdministeredDevice {
    /// The device's queues, in the order of their numbers.
    var queues: [QueueControl] { get }
    /// The most CPU time that one call of a script's function may use.
    var budgetNanoseconds: UInt64 { get }
    func answer(_ request: ServerRequest) -> AdminAnswer
}

/// Carries requests out: sends each to all queues, to the first queue or to the server, and collects the answers.
///
/// Used by the thread that owns the device.
struct Dispatcher {
    private let device: any AdministeredDevice

    init(_ device: any AdministeredDevice) { self.device = device }

    /// Time limit of a request that all queues answer.
    private static let seconds = 5.0

    /// Carries a request out and waits for the answer.
    func answer(_ request: AdminRequest) -> AdminAnswer { begin(request).wait() }

    /// Sends a request without waiting for the answer.
    func begin(_ request: AdminRequest) -> PendingAnswer {
        switch request {
        case .server(let request): .there(device.answer(request))
        case .queue(let request): begin(request)
        }
    }

    private func begin(_ request: QueueRequest) -> PendingAnswer {
        if let sum = request.sum {
            return .ofAll(device.queues.ask { .ask(request, $0) }, sum: sum, seconds: Self.seconds)
        }
        // A handler may be running, and then ctl runs; each may take one and a half times its budget.
        let seconds = 10 + 3 * Double(device.budgetNanoseconds) / 1e9
        return .ofFirst(device.queues.prefix(1).ask { .ask(request, $0) }, seconds: seconds)
    }
}

/// The answer to a request that is under way.
enum PendingAnswer: Sendable {
    /// The answer is known already.
    case there(AdminAnswer)
    /// All queues answer; their reports are added to `sum`.
    case ofAll(AskedQueues<QueueAnswer>, sum: ControlReport, seconds: Double)
    /// The first queue answers for all.
    case ofFirst(AskedQueues<QueueAnswer>, seconds: Double)

    /// The request has been sent to queues.
    var isAsked: Bool { if case .there = self { false } else { true } }

    /// Waits for the answer; call once.
    func wait() -> AdminAnswer { wait(nil) }

    /// The answer, without waiting; nil when a queue has not answered yet; call until it is not nil.
    var ready: AdminAnswer? {
        switch wait(0) {
        case .partly, .silence: nil
        case let answer: answer
        }
    }

    private func wait(_ limit: Double?) -> AdminAnswer {
        switch self {
        case .there(let answer): return answer
        case .ofAll(let asked, let sum, let seconds):
            let (answers, silent) = asked.wait(seconds: limit ?? seconds)
            var report = sum
            for answer in answers {
                switch answer {
                case .success(let other): report = report.adding(other)
                case .failure(let refusal): return .refused(AdminRefusal(refusal))
                }
            }
            guard !silent.isEmpty else { return .report(report) }
            return .partly(report, silent: silent, seconds: Int(seconds))
        case .ofFirst(let asked, let seconds):
            let answer = asked.wait(seconds: limit ?? seconds).answers.first
            return answer.map(AdminAnswer.init) ?? .silence(seconds: Int(seconds))
        }
    }
}
