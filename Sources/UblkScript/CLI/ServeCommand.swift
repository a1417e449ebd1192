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

    /// The origin of the script, whose text is on standard input.
    @Option var origin: ScriptSource.Origin

    func run() throws {
        // Answer only once: then the socket is closed, and its number may be another file's.
        var hasAnswered = false
        do {
            try Serving.run(
                try source(),
                options,
                id: try options.id(),
                overrides: try options.overrides(),
                ledger: ledger,
                cookie: cookie,
                patienceSeconds: try patience.seconds(),
                answerFD: ChildProcess.answerFD,
                sink: { try LogSink(path: StateDirectory.standard.logPath($0)) },
                ready: { record, _ in
                    // All relative paths have been opened; a server should not keep a mount busy.
                    unsafe chdir("/")
                    hasAnswered = true
                    guard ChildProcess.answer(ok: true, JSON.text(record)),
                        ChildProcess.isConfirmed()
                    else {
                        throw Failure("add was interrupted: the device is taken away again")
                    }
                }
            )
        } catch let failure as Failure {
            if !hasAnswered { _ = ChildProcess.answer(ok: false, failure.text) }
            throw ExitCode(1)
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
