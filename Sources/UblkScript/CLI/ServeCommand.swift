import ArgumentParser
import Glibc

/// `serve`: the server process that `add` starts.
///
/// Not for people.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "The server process of a device.",
        shouldDisplay: false
    )

    @OptionGroup var options: ScriptOptions

    func run() throws {
        do {
            try Serving.run(
                options,
                id: try options.id(),
                overrides: try options.overrides(),
                sink: { try LogSink(path: StateDirectory.standard.logPath($0)) },
                ready: { record, _ in
                    // Relative paths have been opened; a server must not keep a mount busy.
                    unsafe chdir("/")
                    guard ChildProcess.answer(ok: true, JSON.text(record)) else {
                        throw Failure("add was interrupted: the device is taken away again")
                    }
                }
            )
        } catch let failure as Failure {
            _ = ChildProcess.answer(ok: false, failure.text)
            throw ExitCode(1)
        }
    }
}
