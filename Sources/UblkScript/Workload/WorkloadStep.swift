/// What an application's script does between two requests: says a word of `ctl`, or waits.
struct WorkloadStep: Equatable, Sendable {
    enum Action: Equatable, Sendable {
        /// What comes later in the file is not made for so long, nanoseconds.
        case wait(UInt64)
        /// As `ublk-script ctl`.
        case say([String], QueueRequest)
    }

    /// Where it stands.
    let origin: String
    let action: Action
    let start: SimulatedRequest.Start

    /// Reads the words of a line.
    ///
    /// - Returns: nil for a line that is a request.
    init?(
        _ words: ArraySlice<String>,
        origin: String,
        start: SimulatedRequest.Start
    ) throws(ConfigError) {
        func refuse(_ text: String) -> ConfigError { ConfigError(origin: origin, text: text) }
        let rest = Array(words.dropFirst())
        self.origin = origin
        self.start = start
        switch words.first {
        case "wait":
            guard rest.count == 1, let time = Quantity.nanoseconds(rest[0]) else {
                throw refuse("wait: a time is expected, as in wait 10s")
            }
            action = .wait(time)
        case "mark":
            guard rest.count == 1 else { throw refuse("mark: a name is expected") }
            action = try Self.say(["mark"] + rest, origin)
        case "ctl":
            guard !rest.isEmpty else { throw refuse("ctl: a word is expected") }
            action = try Self.say(rest, origin)
        default: return nil
        }
    }

    private static func say(_ words: [String], _ origin: String) throws(ConfigError) -> Action {
        let request: AdminRequest
        do throws(AdminRefusal) { request = try AdminRequest(control: words) } catch {
            throw ConfigError(origin: origin, text: error.text)
        }
        let isForServer = ControlWord.named(words[0]).map { $0.request == nil } ?? false
        guard case .queue(let request) = request, !isForServer else {
            throw ConfigError(
                origin: origin,
                text: "ctl \(words[0]) is for a device that runs"
            )
        }
        return .say(words, request)
    }
}

/// A word that was said, and what came of it.
struct SaidWord: Sendable {
    let origin: String
    let words: [String]
    let request: QueueRequest
    let answer: PendingAnswer

    /// What it was answered is told: the word asked for something.
    var isTold: Bool {
        switch request {
        case .release, .held, .pause, .live(.mark): false
        case .live, .script: true
        }
    }
}
