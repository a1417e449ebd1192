/// What an application's script does between two requests: says a word of `ctl`, or waits.
struct WorkloadStep: Equatable, Sendable {
    enum Action: Equatable, Sendable {
        /// What comes later in the file is not made for so long, nanoseconds.
        case wait(UInt64)
        /// As `ublk-script ctl`.
        case say([String])
    }

    /// Where it stands.
    let origin: String
    let action: Action
    let start: SimulatedRequest.Start

    /// Words of `ctl` that the server answers from what a simulation has not.
    private static let serverWords = ["stats", "reload"]

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
            action = .say(["mark"] + rest)
        case "ctl":
            guard let word = rest.first else { throw refuse("ctl: a word is expected") }
            guard !Self.serverWords.contains(word) else {
                throw refuse("ctl \(word) is for a device that runs")
            }
            if word == "release" {
                do throws(LiveControl.Refusal) { _ = try Release(words: rest.dropFirst()) } catch {
                    throw refuse(error.text)
                }
            }
            action = .say(rest)
        default: return nil
        }
    }

    /// What the queue is sent.
    ///
    /// - Parameter answer: told what came of it, unless nothing can go wrong.
    static func message(_ words: [String], _ answer: Promise<ControlAnswer>) -> QueueMessage {
        switch words.first {
        case "pause", "resume": return .pause(words[0] == "pause")
        case "held": return .held(Promise())
        case "release":
            let release = try? Release(words: words.dropFirst())
            return .release(release ?? Release(), Promise())
        default: return .control(words, answer)
        }
    }
}

/// A word that was said, and what came of it.
struct SaidWord: Sendable {
    let origin: String
    let words: [String]
    let answer: Promise<ControlAnswer>
}
