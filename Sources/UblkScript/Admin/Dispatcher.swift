/// A device, as those see it who have something done to it.
///
/// A server's, or one that the simulator has.
protocol AdministeredDevice {
    /// In the order of their numbers.
    var queues: [QueueControl] { get }
    /// CPU time that a script's function may use at a stretch.
    var budgetNanoseconds: UInt64 { get }
    func answer(_ request: ServerRequest) -> AdminAnswer
}

/// Has requests done: the one place where it is decided who answers what.
///
/// The thread that owns the device.
struct Dispatcher {
    private let device: any AdministeredDevice

    init(_ device: any AdministeredDevice) { self.device = device }

    /// How long queues that all answer may take.
    private static let seconds = 5.0

    /// Has it done, and waits for the answer.
    func answer(_ request: AdminRequest) -> AdminAnswer { begin(request).wait() }

    /// Tells the queues, and waits for none of them.
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
        // One handler may be under way, then ctl runs; each may take its budget and half as much again.
        let seconds = 10 + 3 * Double(device.budgetNanoseconds) / 1e9
        return .ofFirst(device.queues.prefix(1).ask { .ask(request, $0) }, seconds: seconds)
    }
}

/// The answer to a request that is under way.
enum PendingAnswer: Sendable {
    case there(AdminAnswer)
    /// Every queue adds to it.
    case ofAll(AskedQueues<QueueAnswer>, sum: ControlReport, seconds: Double)
    /// One queue answers for all.
    case ofFirst(AskedQueues<QueueAnswer>, seconds: Double)

    /// Queues have been told.
    var isAsked: Bool { if case .there = self { false } else { true } }

    /// Waits for the answer; once.
    func wait() -> AdminAnswer { wait(nil) }

    /// The answer, when the queues had their turn since they were told.
    ///
    /// nil: they had none. Once.
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
