/// A request to a device.
///
/// Parsed from words once, whatever their source: a command over the control socket, a script's test, a workload of
/// the simulator. ``Dispatcher`` carries it out. A new word of `ctl` is a case of ``LiveRequest``, ``QueueRequest`` or
/// ``ServerRequest``, next to the code that carries it out, and a line of ``ControlWord/all``.
enum AdminRequest: Sendable {
    /// The device's queues answer.
    case queue(QueueRequest)
    /// The device's server answers.
    case server(ServerRequest)
}

/// A request that the server answers, and that a simulated device cannot.
enum ServerRequest: Sendable {
    case statistics
    case status
    case reload(ReloadRequest)
    case resize(ResizeRequest)
    case ledger(LedgerRequest)
    case trace(TraceRequest)
    case reached(Milestone)
    /// Stops, and with `deletes` also deletes, the device.
    ///
    /// - Parameter patienceSeconds: how long to wait while it makes no progress; nil: as the server was started with.
    case takeDown(deletes: Bool, patienceSeconds: Int?)
    /// Stops the device unless somebody has its disk open.
    case stopIfUnused(patienceSeconds: Int?)
    /// Ends the server, and leaves the device waiting for another one.
    case quiesce(patienceSeconds: Int?)

    /// Whether the device is deleted by it; nil: the server goes on.
    var endsWithDelete: Bool? {
        switch self {
        case .takeDown(let deletes, _): deletes
        case .stopIfUnused, .quiesce: false
        case .statistics, .status, .reload, .resize, .ledger, .trace, .reached: nil
        }
    }
}

/// The error for words that are no valid request, and for a request that is refused.
struct AdminRefusal: Error, Equatable, Sendable {
    let text: String

    init(_ text: String) { self.text = text }
}

/// A built-in word of `ctl`.
///
/// The table ``all`` is the source of the parser, the command's help, the shell's completion and the error for an
/// unknown word.
struct ControlWord: Sendable {
    /// Whether the answer is rows, printed as a table: never, for the word without arguments, always.
    enum Rows { case never, alone, always }

    let word: String
    /// Synopsis of its arguments; empty: it takes none.
    let arguments: String
    /// Lines of help.
    let help: String
    let rows: Rows
    /// Parses the arguments; nil for a word that the command handles itself and does not send as `ctl`.
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

    /// The words that are sent to a device as `ctl`, separated by blanks.
    static var names: String {
        all.filter { $0.request != nil }.map(\.word).joined(separator: " ")
    }

    /// True when the answer to these words is rows.
    static func hasRows(_ words: [String]) -> Bool {
        switch words.first.flatMap(named)?.rows {
        case .always: true
        case .alone: words.count == 1
        case .never, nil: false
        }
    }

    /// A list of all words, for the command's help.
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
    /// Parses the words of `ctl`: a built-in word and its arguments, or words for the script's own function.
    ///
    /// - Parameter asJSON: the answer of the script's function is wanted as JSON.
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

/// A request as sent over the control socket, and the format of the answer.
struct AdminCall: Sendable {
    /// The first word, which both ends of the socket know by this.
    enum Verb: String, Sendable {
        /// Words of ``ControlWord``, or for the script's own function.
        case control = "ctl"
        case controlAsJSON = "ctl-json"
        case status
        case reload
        case resize
        case ledger
        case trace
        case reached
        case stop
        /// A word of its own: a server that does not know it refuses, where it might ignore an argument.
        case stopIfUnused = "stop-if-unused"
        case quiesce
        case delete = "del"
    }

    let request: AdminRequest
    var asJSON = false

    init(words: [String]) throws(AdminRefusal) {
        let arguments = Array(words.dropFirst())
        let word = words.first ?? ""
        guard let verb = Verb(rawValue: word) else {
            throw AdminRefusal("unknown request \"\(word)\"")
        }
        switch verb {
        case .control: request = try AdminRequest(control: arguments)
        case .controlAsJSON:
            request = try AdminRequest(control: arguments, asJSON: true)
            asJSON = true
        case .status: request = .server(.status)
        case .reload: request = .server(.reload(try ReloadRequest(words: arguments)))
        case .resize: request = .server(.resize(try ResizeRequest(words: arguments)))
        case .ledger: request = .server(.ledger(try LedgerRequest(words: arguments)))
        case .trace: request = .server(.trace(try TraceRequest(words: arguments)))
        case .reached:
            guard let milestone = Milestone(words: arguments) else {
                throw AdminRefusal("reached: rule, mark, held or state")
            }
            request = .server(.reached(milestone))
        case .stop, .delete:
            request = .server(
                .takeDown(deletes: verb == .delete, patienceSeconds: Self.seconds(arguments))
            )
        case .stopIfUnused:
            request = .server(.stopIfUnused(patienceSeconds: Self.seconds(arguments)))
        case .quiesce: request = .server(.quiesce(patienceSeconds: Self.seconds(arguments)))
        }
    }

    private static func seconds(_ arguments: [String]) -> Int? {
        arguments.first.flatMap { Int($0) }
    }
}
