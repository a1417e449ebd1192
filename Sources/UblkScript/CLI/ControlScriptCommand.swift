import ArgumentParser

/// `ctl ID WORD...`: talks to a running script.
struct ControlScriptCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ctl",
        abstract: "Talk to a running script.",
        discussion: """
            Built-in words:
              release [ERRNO]   let go of held IOs: as scripted, or with an errno
              pause, resume     hold every IO that arrives; let them go on
              stats             counters, and how often each rule acted
              rule [on|off R]   the rules; switch one on or off by name or line, or all
              ranges [SET ...]  the named sets; SET list, count, clear, add OFFSET LENGTH ...,
                                remove OFFSET LENGTH ...
              mark NAME         a moment, for after and before of rules
              state [NAME]      the device's state; set it
              seed              the seed of every random choice
            Every other word goes to the script's function ctl(word, ...).
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
        let connection = try Removal.connect(id, record, seconds: 15)
        guard let answer = connection.ask(["ctl"] + words) else {
            throw Failure("the server of device \(id) did not answer within 15 s")
        }
        guard answer.ok else { throw Failure(answer.text) }
        if !answer.text.isEmpty { Output.line(answer.text) }
    }
}
