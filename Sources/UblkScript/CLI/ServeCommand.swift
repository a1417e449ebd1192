import ArgumentParser
import Glibc

/// `serve`: the server process that `add` starts; hidden.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "The server process of a device.",
        shouldDisplay: false
    )

    @OptionGroup var options: ScriptOptions
    @OptionGroup var patience: PatienceOption

    /// The device's cookie, by which ``ServerSpawn`` finds the device when this process has died.
    @Option var cookie: UInt64

    @OptionGroup var ledger: LedgerFileOption
    @OptionGroup var restart: RestartOption

    /// The origin of the script, whose text is on standard input.
    @Option var origin: ScriptSource.Origin

    func run() throws {
        try ServerAnswer.give { answer in
            let state = StateDirectory.standard
            var request = try options.request(try source(), ledger, patience, restart) {
                try LogSink(path: state.logPath($0))
            }
            request.cookie = cookie
            try Serving.run(request, answerFD: ChildProcess.answerFD) { record, _ in
                guard answer(record) else {
                    throw Failure("add was interrupted: the device is taken away again")
                }
            }
        }
    }

    private func source() throws -> ScriptSource {
        do throws(WholeFile.Problem) {
            let content = try WholeFile.readInput(bytesMax: ScriptSource.bytesMax) {}
            // Replace standard input, which frees the memory file with the text.
            let null = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
            dup2(null, STDIN_FILENO)
            close(null)
            return ScriptSource(
                path: options.scriptWord ?? "",
                text: content.bytes,
                origin: origin
            )
        } catch { throw Failure("the script did not arrive at the server: \(error)") }
    }
}

extension ScriptSource.Origin: ExpressibleByArgument {}

/// `serve-again`: the server process that `recover` starts; hidden.
struct ServeAgainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve-again",
        abstract: "The server process of a device whose server died.",
        shouldDisplay: false
    )

    /// As of ``ServeCommand``.
    @Option var cookie: UInt64
    @OptionGroup var deaths: DeathsOption
    @Argument var id: UInt32

    func run() throws {
        try ServerAnswer.give { answer in
            let client = try ServerClient(DeviceID(id))
            guard client.record.cookie == cookie else {
                throw Failure("device \(id) has become another one")
            }
            let record = client.record
            let request = try DeviceServer.Request(recovering: record, deaths: deaths.deaths) {
                try LogSink(path: StateDirectory.standard.logPath($0), continues: true)
            }
            // Whoever asked for it may be gone: the device has its server all the same.
            try Serving.run(request, answerFD: ChildProcess.answerFD) { record, _ in
                _ = answer(record)
            }
        }
    }
}

/// `--deaths`: how many servers died quickly before (``ServerGuard``); hidden.
struct DeathsOption: ParsableArguments {
    @Option(help: .hidden)
    var deaths = 0
}

/// The answer of a server process to the command that started it.
enum ServerAnswer {
    /// Runs a server, and tells the command why it failed.
    ///
    /// - Parameter serve: is given a function to call when the device is up, which is false when the command has gone.
    static func give(_ serve: ((DeviceRecord) -> Bool) throws -> Void) throws {
        // Answer only once: then the socket is closed, and its number may be another file's.
        var hasAnswered = false
        do {
            try serve { record in
                // All relative paths have been opened; a server should not keep a mount busy.
                unsafe chdir("/")
                hasAnswered = true
                return ChildProcess.answer(ok: true, JSON.text(record))
                    && ChildProcess.isConfirmed()
            }
        } catch {
            if !hasAnswered { _ = ChildProcess.answer(ok: false, Failure(error).text) }
            throw ExitCode(1)
        }
    }
}
