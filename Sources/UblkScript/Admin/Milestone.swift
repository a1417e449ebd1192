/// A condition that `ublk-script wait` waits for.
enum Milestone: Equatable, Sendable {
    /// The rules of that name or line have acted at least this many times.
    case rule(String, times: UInt64)
    /// The mark was set at least this many times.
    case mark(String, times: UInt64)
    /// At least this many IOs are held at this moment.
    case held(UInt64)
    /// The device's state has this name.
    case state(String)

    /// The first words of what is parsed.
    static let words = ["rule", "mark", "held", "state"]

    /// Parses the words; fails when they are none of these.
    ///
    /// - Parameter words: `rule NAME [COUNT]`, `mark NAME [COUNT]`, `held [COUNT]` or `state NAME`; a count is at
    ///   least 1, which is the default.
    init?(words: [String]) {
        func count(at index: Int) -> UInt64? {
            guard words.count > index else { return 1 }
            guard words.count == index + 1, let count = UInt64(words[index]), count > 0 else {
                return nil
            }
            return count
        }
        let name = words.count > 1 ? words[1] : nil
        switch (words.first, name) {
        case ("rule", let name?):
            guard let times = count(at: 2) else { return nil }
            self = .rule(name, times: times)
        case ("mark", let name?):
            guard let times = count(at: 2) else { return nil }
            self = .mark(name, times: times)
        case ("held", _):
            guard let number = count(at: 1) else { return nil }
            self = .held(number)
        case ("state", let name?) where words.count == 2: self = .state(name)
        default: return nil
        }
    }

    /// Whether the condition holds, and the present count.
    struct Report: Equatable, Sendable {
        let isReached: Bool
        /// Present number of times, or of held IOs; for a state 1 or 0.
        let count: UInt64
        /// The present situation as a sentence.
        let text: String

        init(isReached: Bool, count: UInt64, text: String) {
            self.isReached = isReached
            self.count = count
            self.text = text
        }

        /// The report as sent over the control socket: `yes` or `no`, the count, the sentence.
        var line: String { "\(isReached ? "yes" : "no") \(count) \(text)" }

        init?(line: String) {
            let parts = line.split(separator: " ", maxSplits: 2).map(String.init)
            guard parts.count == 3, let count = UInt64(parts[1]) else { return nil }
            self.init(isReached: parts[0] == "yes", count: count, text: parts[2])
        }
    }
}
