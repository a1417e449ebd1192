/// Something that `ublk-script wait` waits for.
enum Milestone: Equatable, Sendable {
    /// The rules of that name or line have acted so many times.
    case rule(String, times: UInt64)
    /// The mark was set so many times.
    case mark(String, times: UInt64)
    /// So many IOs are held at this moment.
    case held(UInt64)
    case state(String)

    /// - Parameter words: `rule NAME [COUNT]`, `mark NAME [COUNT]`, `held [COUNT]` or `state NAME`; a count is 1
    ///   unless it is given, and not 0.
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

    /// How far it is.
    struct Report: Equatable, Sendable {
        let isReached: Bool
        /// How often so far.
        let count: UInt64
        /// The same as a sentence.
        let text: String

        init(isReached: Bool, count: UInt64, text: String) {
            self.isReached = isReached
            self.count = count
            self.text = text
        }

        /// On the control socket: `yes` or `no`, the count, the sentence.
        var line: String { "\(isReached ? "yes" : "no") \(count) \(text)" }

        init?(line: String) {
            let parts = line.split(separator: " ", maxSplits: 2).map(String.init)
            guard parts.count == 3, let count = UInt64(parts[1]) else { return nil }
            self.init(isReached: parts[0] == "yes", count: count, text: parts[2])
        }
    }
}
