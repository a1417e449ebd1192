import ArgumentParser
import Glibc

/// `trace ID`: prints each step of each request, live.
struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Follow each request of a device through the ublk protocol, step by step.",
        discussion: """
            It begins with the commands that made the device: ADD_DEV, SET_PARAMS, START_DEV and what was given since. \
            Then there is a line a step: FETCH_REQ, the request with its decoded io descriptor, what was decided and by which rule or \
            handler, waits, transfers of stores, COMMIT_AND_FETCH_REQ with the result, ABORT. In front of it stand the time \
            since the trace began (negative: before it), the queue and tag, and the time since the request arrived.

            Ctrl-C ends it, and the device goes on untouched. A queue waits for nobody: steps that come faster than they are \
            read are counted as lost. simulate SCRIPT --trace prints the same without root. See docs/trace.md.
            """
    )

    @OptionGroup var device: DeviceArgument

    @Flag(help: "Say of the first step of each kind what it means.")
    var explain = false

    @Flag(help: "One JSON object a line.")
    var json = false

    @Option(
        name: [.customShort("o"), .long],
        help: "Write the steps to a file for ui.perfetto.dev instead of printing them.",
        completion: .file()
    )
    var output: String?

    @Flag(help: ArgumentHelp(TracePrinter.openHelp))
    var open = false

    @Option(help: "End after so many steps, without those from before the trace.")
    var count: Int?

    @Option(help: "End after so many seconds.")
    var seconds: Double?

    func validate() throws {
        try TracePrinter.check(explains: explain, isJSON: json, output, opens: open)
        if let count, count < 1 {
            throw ValidationError("--count \(count): at least 1 is expected")
        }
        if let seconds, !(seconds > 0 && seconds <= 1e9) {
            throw ValidationError("--seconds \(seconds): a time above 0 is expected")
        }
    }

    func run() throws {
        let server = try ServerClient(try device.idOrSole())
        let offer = open ? try TraceOffer() : nil
        try follow(server)
        if let output { try offer?.offer(output) }
    }

    private func follow(_ server: ServerClient) throws {
        var printer = try TracePrinter(explains: explain, isJSON: json, output)
        var limit = seconds.map { TimeLimit(seconds: $0) }
        var left = count ?? .max
        var cursor: [String] = []
        var hasEnded = false
        while let page = try ask(server, cursor) {
            cursor = page.cursor
            // A server that ends in order shows how its tags are taken back.
            hasEnded = hasEnded || page.steps.contains { $0.step == .abort }
            let before = page.steps.prefix { $0.ago != nil }
            let steps = page.steps.dropFirst(before.count)
            try printer.show(before + steps.prefix(left))
            left -= min(left, steps.count)
            if left == 0 || limit?.isOver() == true { return }
            if !page.hasMore { usleep(100_000) }
        }
        guard hasEnded else { throw server.hasDied }
    }

    /// Asks for the next page; nil when the device is gone.
    private func ask(_ server: ServerClient, _ cursor: [String]) throws -> TracePage? {
        let isFirst = cursor.isEmpty
        let pid = server.record.serverPID
        if !isFirst, !ServerProcess.isAlive(pid) { return nil }
        let answer: String
        do { answer = try server.ask(.trace, cursor) } catch {
            if !isFirst, ServerProcess.waitForExit(pid, seconds: 5) { return nil }
            throw error
        }
        guard let page = JSON.decode(TracePage.self, Array(answer.utf8)) else {
            throw server.isOfAnotherVersion
        }
        return page
    }
}

/// Prints the steps of a trace.
struct TracePrinter {
    private let isJSON: Bool
    private var text: TraceText
    /// Where the steps go instead; nil: they are printed.
    private let file: TraceFile?

    /// - Parameter output: name of a file for Perfetto.
    init(explains: Bool, isJSON: Bool, _ output: String?) throws {
        self.isJSON = isJSON
        file = try output.map { try TraceFile($0) }
        text = TraceText(explains: explains)
    }

    /// The lines to print for steps: none when they go to a file.
    mutating func lines(_ steps: some Sequence<TraceStep>) throws -> [String] {
        if let file {
            try file.add(steps)
            return []
        }
        return steps.flatMap { isJSON ? [JSON.text($0)] : text.lines($0) }
    }

    mutating func show(_ steps: some Sequence<TraceStep>) throws {
        for line in try lines(steps) {
            if isJSON { Output.line(line) } else { Output.record(line) }
        }
        try Output.flush()
    }

    static let openHelp =
        "Then hand the file of --output to ui.perfetto.dev: print the link, and wait until it was fetched."

    static func check(
        explains: Bool,
        isJSON: Bool,
        _ output: String?,
        opens: Bool
    ) throws {
        if opens, output == nil {
            throw ValidationError("--open takes the file of --output, which is not there")
        }
        if output == "" { throw ValidationError("--output: the name of a file is expected") }
        if explains, output != nil {
            throw ValidationError("--explain is for what is printed, and --output prints nothing")
        }
        if isJSON, output != nil {
            throw ValidationError("--json is for what is printed, and --output prints nothing")
        }
        if explains, isJSON {
            throw ValidationError("--explain is for people, --json for programs: not both")
        }
    }
}
