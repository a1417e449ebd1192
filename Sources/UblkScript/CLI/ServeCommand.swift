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

    @Option(help: "Where to say that the device is ready, or why not.")
    var readyFD: Int32

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
                    guard say(ok: true, JSON.text(record)) else {
                        throw Failure("add was interrupted: the device is taken away again")
                    }
                }
            )
        } catch let failure as Failure {
            _ = say(ok: false, failure.text)
            throw ExitCode(1)
        }
    }

    /// - Returns: false when nobody listens any more.
    private func say(ok: Bool, _ text: String) -> Bool {
        let bytes = Array(((ok ? "+" : "-") + text).utf8)
        let written = unsafe bytes.withUnsafeBytes {
            unsafe write(readyFD, $0.baseAddress, $0.count)
        }
        close(readyFD)
        return written == bytes.count
    }
}
