import ArgumentParser
import Glibc

/// The program: `ublk-script VERB ...`.
///
/// Exit codes: 0 done, 1 it failed, 2 the command line is wrong.
@main
struct UblkScript: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ublk-script",
        abstract: "A block device whose every IO a Lua script decides about.",
        discussion: """
            A script declares a device and its faults; add makes /dev/ublkbN of it, served from this \
            program through the Linux ublk driver. See docs/scripting.md for the language.
            """,
        version: "ublk-script \(version)",
        subcommands: [
            AddCommand.self, DeleteCommand.self, ListCommand.self, StopCommand.self,
            RecoverCommand.self, QuiesceCommand.self, ControlScriptCommand.self, ReloadCommand.self,
            ResizeCommand.self, MapCommand.self, LedgerCommand.self, TraceCommand.self,
            WaitCommand.self, StatsCommand.self, FeaturesCommand.self,
            CheckCommand.self,
            SimulateCommand.self, FaultsCommand.self, ServeCommand.self, ServeAgainCommand.self,
            RawCommand.self, GiveNodeCommand.self,
        ]
    )

    static let version = "0.1.0"

    static func main() {
        Output.occupyStreams()
        // The argument parser wraps help texts to this width.
        unsafe setenv("COLUMNS", "\(Wrap.columns)", 1)
        // So that a write beyond RLIMIT_FSIZE fails with EFBIG instead of killing the process.
        signal(SIGXFSZ, SIG_IGN)
        OutsideProcess.runIfAsked(CommandLine.arguments)
        LoadWatch.setOnStuck { text in
            Output.error(text)
            _exit(1)
        }
        Aftermath.runIfAsked(CommandLine.arguments)
        var kind: any ParsableCommand.Type = Self.self
        do {
            var command = try parseAsRoot()
            kind = type(of: command)
            try command.run()
            try Output.flush()
        } catch let failure as Failure {
            Output.error(failure.text)
            Glibc.exit(1)
        } catch {
            end(error, of: kind)
        }
    }

    /// Prints an error of the parser, or of a command that found its arguments wrong when it ran, and exits.
    private static func end(_ error: any Error, of kind: any ParsableCommand.Type) -> Never {
        let code = exitCode(for: error)
        guard code != .failure else {
            // A command that throws an ExitCode has printed its error itself.
            if !(error is ExitCode) { Output.error("\(error)") }
            Glibc.exit(1)
        }
        if code == .success {
            // Help, or a shell completion.
            let text = fullMessage(for: error)
            // The parser wraps everything but the usage.
            let isHelp = text.hasPrefix("OVERVIEW: ")
            do { try Output.now((isHelp ? Wrap.text(text, hanging: 2) : text) + "\n") } catch {
                Output.error("\(error)")
                Glibc.exit(1)
            }
            Glibc.exit(0)
        }
        Output.error(error is ValidationError ? message(error, of: kind) : fullMessage(for: error))
        Glibc.exit(2)
    }

    /// The message of a validation error, with the usage of the command itself.
    private static func message(
        _ error: any Error,
        of kind: any ParsableCommand.Type
    ) -> String {
        let name = kind == Self.self ? "" : " \(kind.configuration.commandName ?? "")"
        return """
            \(message(for: error))
            Usage: \(usageString(for: kind))
              See 'ublk-script\(name) --help' for more information.
            """
    }
}

/// The error of a command that could not do its work: a text, and exit code 1.
struct Failure: Error {
    let text: String
    init(_ text: String) { self.text = text }
    init(_ error: any Error) { text = (error as? Failure)?.text ?? "\(error)" }
}
