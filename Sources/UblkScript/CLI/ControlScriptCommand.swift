import ArgumentParser

/// `ctl ID WORD...`: talks to a running script.
struct ControlScriptCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ctl",
        abstract: "Talk to a running script.",
        discussion: """
            Built-in words:
              release [fifo|lifo|random] [COUNT] [ERRNO]
                                let go of held IOs, in that order of their arrival, so many of each queue:
                                as scripted, or with an errno
              pause, resume     hold every IO that arrives; let them go on
              stats             counters, and how often each rule acted
              rule [on|off R]   the rules; switch one on or off by name or line, or all
              ranges [SET ...]  the named sets; SET list, count, clear, add OFFSET LENGTH ...,
                                remove OFFSET LENGTH ...
              mark NAME         a moment, for after and before of rules
              state [NAME]      the device's state; set it
              seed              the seed of every random choice
              reload [SCRIPT]   as 'ublk-script reload'
            Every other word goes to the script's function ctl(word, ...).

            With - in place of words each line of standard input is said, its words between blanks, until
            one fails.
            """
    )

    @Argument(help: "The device: 0, /dev/ublkb0 or /dev/ublkc0.")
    var device: String

    @Argument(parsing: .captureForPassthrough, help: "What to say.")
    var words: [String]

    func run() throws {
        let id = try DeviceArgument.parse(device)
        guard !words.isEmpty else { throw ValidationError("what to say? For example: stats") }
        let record = try Removal.ownRecord(id)
        guard words == ["-"] else { return try say(words, id, record) }
        var number = 0
        while let line = readLine() {
            number += 1
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            guard !words.isEmpty else { continue }
            do { try say(words, id, record) } catch let failure as Failure {
                throw Failure("line \(number): \(failure.text)")
            }
        }
    }

    private func say(_ words: [String], _ id: DeviceID, _ record: DeviceRecord) throws {
        let answer =
            words[0] == "reload"
            ? try ReloadCommand.ask(id, record, Array(words.dropFirst()))
            : try Removal.ask(["ctl"] + words, id, record, seconds: Removal.questionSeconds)
        if !answer.isEmpty { Output.line(answer) }
    }
}
