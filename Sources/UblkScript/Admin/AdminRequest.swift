/// One thing that somebody asks of a device.
///
/// Read from words once, whoever said them: a command over the control socket, a script's test, a workload
/// of the simulator. ``Dispatcher`` has it done. A new word of `ctl` is a case of ``LiveRequest``,
/// ``QueueRequest`` or ``ServerRequest``, the first two beside what does it, and a line of ``ControlWord/all``.
enum AdminRequest: Sendable {
    /// Its queues answer.
    case queue(QueueRequest)
    /// Its server answers.
    case server(ServerRequest)
}

/// What only a device that has a server can answer.
enum ServerRequest: Sendable {
    case statistics
    case status
    case reload(ReloadRequest)
    case ledger(LedgerRequest)
    case reached(Milestone)
    /// - Parameter patienceSeconds: how long without progress; nil: as the server was started.
    case takeDown(deletes: Bool, patienceSeconds: Int?)
}

/// Words that are no request, or a request that is refused.
struct AdminRefusal: Error, Equatable, Sendable {
    let text: String

    init(_ text: String) { self.text = text }
}

/// A built-in word of `ctl`.
///
/// From the table of them come the words that are understood, the command's help, the shell's completion
/// and the refusal of an unknown word.
struct ControlWord: Sendable {
    /// When the answer is rows, which people get as a table.
    enum Rows { case never, alone, always }

    let word: String
    /// How its arguments are written; empty: it takes none.
    let arguments: String
    /// Lines for people.
    let help: String
    let rows: Rows
    /// nil: the command has more to do than to say it to the server.
    let request: (@Sendable ([String]) throws(AdminRefusal) -> AdminRequest)?

    static let all = [
        ControlWord(
            "release",
            "[fifo|lifo|random] [COUNT] [ERRNO] [QUEUE:TAG ...]",
            """
            let go of held IOs, in that order of their arrival, so
            many of each queue: as scripted, or with an errno
            """
        ) { words throws(AdminRefusal) in .queue(.release(try Release(words: words))) },
        ControlWord("held", "", "the IOs that are held", rows: .always) { _ in .queue(.held) },
        ControlWord("stats", "", "as 'ublk-script stats'") { _ in .server(.statistics) },
        ControlWord("pause", "", "hold every IO that arrives") { _ in .queue(.pause(true)) },
        ControlWord("resume", "", "let them go on") { _ in .queue(.pause(false)) },
        ControlWord(
            "rule",
            "[on|off R]",
            "the rules; switch one on or off by name or line, or all",
            rows: .always
        ) { words throws(AdminRefusal) in .queue(.live(try .rule(words))) },
        ControlWord(
            "ranges",
            "[SET ...]",
            """
            the named sets; SET list, count, clear,
            add OFFSET LENGTH ..., remove OFFSET LENGTH ...
            """,
            rows: .alone
        ) { words throws(AdminRefusal) in .queue(.live(try .ranges(words))) },
        ControlWord("mark", "NAME", "a moment, for after and before of rules") {
            words throws(AdminRefusal) in .queue(.live(try .mark(words)))
        },
        ControlWord("state", "[NAME]", "the device's state; set it") {
            words throws(AdminRefusal) in .queue(.live(try .state(words)))
        },
        ControlWord("seed", "", "the seed of every random choice") { _ in .queue(.live(.seed)) },
        ControlWord("reload", "[SCRIPT]", "as 'ublk-script reload'", nil),
    ]

    private init(
        _ word: String,
        _ arguments: String,
        _ help: String,
        rows: Rows = .never,
        _ request: (@Sendable ([String]) throws(AdminRefusal) -> AdminRequest)?
    ) {
        self.word = word
        self.arguments = arguments
        self.help = help
        self.rows = rows
        self.request = request
    }

    static func named(_ word: String) -> ControlWord? { all.first { $0.word == word } }

    /// Of those that are said to a device.
    static var names: String {
        all.filter { $0.request != nil }.map(\.word).joined(separator: " ")
    }

    /// The answer to the words is rows.
    static func hasRows(_ words: [String]) -> Bool {
        switch words.first.flatMap(named)?.rows {
        case .always: true
        case .alone: words.count == 1
        case .never, nil: false
        }
    }

    /// A list of all of them, for the command's help.
    static var helpText: String {
        let column = 14
        let indent = String(repeating: " ", count: column)
        return all.map { word in
            let usage = "  " + word.word + (word.arguments.isEmpty ? "" : " " + word.arguments)
            let start =
                usage.count <= column - 2
                ? usage + indent.dropFirst(usage.count) : usage + "\n" + indent
            return start + word.help.split(separator: "\n").joined(separator: "\n" + indent)
        }
        .joined(separator: "\n")
    }
}

extension AdminRequest {
    /// - Parameters:
    ///   - words: of `ctl`; the first is a built-in one, or all are for the script's own function.
    ///   - asJSON: a script's answer is wanted as JSON.
    init(control words: [String], asJSON: Bool = false) throws(AdminRefusal) {
        guard let word = words.first.flatMap(ControlWord.named), let request = word.request else {
            self = .queue(.script(words, asJSON: asJSON))
            return
        }
        let arguments = Array(words.dropFirst())
        if word.arguments.isEmpty, let first = arguments.first {
            throw AdminRefusal("\(word.word) takes no argument, and \"\(first)\" is one")
        }
        self = try request(arguments)
    }
}

/// What a command says over the control socket: a request, and how the answer is wanted.
struct AdminCall: Sendable {
    let request: AdminRequest
    var asJSON = false

    init(words: [String]) throws(AdminRefusal) {
        let arguments = Array(words.dropFirst())
        switch words.first ?? "" {
        case "ctl": request = try AdminRequest(control: arguments)
        case "ctl-json":
            request = try AdminRequest(control: arguments, asJSON: true)
            asJSON = true
        case "status": request = .server(.status)
        case "reload": request = .server(.reload(try ReloadRequest(words: arguments)))
        case "ledger": request = .server(.ledger(try LedgerRequest(words: arguments)))
        case "reached":
            guard let milestone = Milestone(words: arguments) else {
                throw AdminRefusal("reached: rule, mark, held or state")
            }
            request = .server(.reached(milestone))
        case "del", "stop":
            request = .server(
                .takeDown(
                    deletes: words[0] == "del",
                    patienceSeconds: arguments.first.flatMap { Int($0) }
                )
            )
        case let word: throw AdminRefusal("unknown request \"\(word)\"")
        }
    }
}
