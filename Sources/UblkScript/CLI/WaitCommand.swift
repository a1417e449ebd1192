import ArgumentParser
import Glibc

/// `wait ID WHAT`: waits until a condition holds; for shell scripts around a device.
struct WaitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait",
        abstract:
            "Wait until a rule has acted, a mark was set, an IO is held, or the state has a name.",
        discussion: """
              wait 0 rule NAME [COUNT]  the rule of that name, or line, acted so
                                        many times (1)
              wait 0 mark NAME [COUNT]  the mark was set so many times (1)
              wait 0 held [COUNT]       so many IOs are held at this moment (1)
              wait 0 state NAME         the device's state has that name

            Looks 50 times a second. Exit code 1 when the time is over first, or the \
            device goes away. To act before the next IO, let the rule hang, wait, act, \
            then ctl 0 release. A sole device need not be named.
            """
    )

    @OptionGroup var option: DeviceNumberOption

    @Argument(
        help: ArgumentHelp(
            "The device; rule, mark, held or state; its name; how many.",
            valueName: "device> <what"
        ),
        completion: .custom { words, index, _ in
            (words.count <= index + 1
                ? StateDirectory.standard.recordedIDs().map(\.description) : [])
                + Milestone.words
        }
    )
    var allWords: [String]

    @Option(help: "Give up after that time: 30s, 2min.")
    var timeout: String?

    @Flag(help: "Print what came, as JSON.")
    var json = false

    /// The words of the condition, without the device.
    private var words: [String] {
        let isNamed =
            option.number == nil && allWords.first.flatMap { DeviceID(parsing: $0) } != nil
        return Array(allWords.dropFirst(isNamed ? 1 : 0))
    }

    func validate() throws {
        if let timeout, Quantity.nanoseconds(timeout) == nil {
            throw ValidationError("--timeout \(timeout): a time such as 30s or 2min is expected")
        }
        guard Milestone(words: words) != nil else {
            throw ValidationError(
                "\"\(words.joined(separator: " "))\": \"rule NAME [COUNT]\", \"mark NAME [COUNT]\", "
                    + "\"held [COUNT]\" or \"state NAME\" is expected, COUNT from 1 on"
            )
        }
    }

    /// The result of the wait, as JSON.
    struct Report: Encodable {
        let what: String
        var name: String?
        let count: UInt64
        let isReached: Bool
        let waitedNanoseconds: UInt64
    }

    func run() throws {
        let id = try DeviceArgument.first(of: allWords, option).id
        let server = try ServerClient(id)
        var limit = timeout.flatMap(Quantity.nanoseconds).map { TimeLimit(nanoseconds: $0) }
        let start = SystemCall.monotonicNanoseconds
        while true {
            var isOver = false
            func isLate() -> Bool {
                isOver = limit?.isOver() ?? false
                return isOver
            }
            let answer: Milestone.Report
            do { answer = try ask(server) { !isLate() } } catch let failure as Failure {
                guard isOver else { throw failure }
                throw Failure("after \(timeout ?? ""): the server of device \(id) does not answer")
            }
            guard answer.isReached || isLate() else {
                usleep(20_000)
                continue
            }
            if json {
                report(
                    answer.count,
                    answer.isReached,
                    SystemCall.monotonicNanoseconds - start
                )
            }
            guard answer.isReached else { throw Failure("after \(timeout ?? ""): \(answer.text)") }
            return
        }
    }

    private func ask(
        _ server: ServerClient,
        shouldContinue: () -> Bool
    ) throws -> Milestone.Report {
        let answer = try server.ask(.reached, words, shouldContinue: shouldContinue)
        guard let report = Milestone.Report(line: answer) else {
            throw server.isOfAnotherVersion
        }
        return report
    }

    private func report(_ count: UInt64, _ isReached: Bool, _ waited: UInt64) {
        let report = Report(
            what: words[0],
            name: words[0] == "held" ? nil : words[1],
            count: count,
            isReached: isReached,
            waitedNanoseconds: waited
        )
        Output.line(JSON.text(report))
    }
}
