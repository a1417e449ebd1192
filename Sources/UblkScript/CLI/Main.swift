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
            A script declares a device and its faults; add makes /dev/ublkbN of it, served from this
            program through the Linux ublk driver. See docs/scripting.md for the language.
            """,
        subcommands: [
            AddCommand.self, DeleteCommand.self, ListCommand.self, StopCommand.self,
            ControlScriptCommand.self, ReloadCommand.self, MapCommand.self, LedgerCommand.self,
            WaitCommand.self,
            FeaturesCommand.self,
            CheckCommand.self,
            SimulateCommand.self, FaultsCommand.self, ServeCommand.self,
        ]
    )

    static func main() {
        OutsideControl.runIfAsked(CommandLine.arguments)
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            Output.error(failure.text)
            Glibc.exit(1)
        } catch {
            let code = exitCode(for: error)
            if code == .success || code == .failure { exit(withError: error) }
            Output.error(fullMessage(for: error))
            Glibc.exit(2)
        }
    }
}

/// A command that could not do what it was asked for: one text, exit code 1.
struct Failure: Error {
    let text: String
    init(_ text: String) { self.text = text }
    init(_ error: any Error) { text = "\(error)" }
}

/// The two streams a command writes to.
enum Output {
    static func line(_ text: String) { print(text) }

    /// At once, also into a pipe.
    static func now(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let sent = unsafe rest.withUnsafeBytes {
                unsafe write(STDOUT_FILENO, $0.baseAddress, $0.count)
            }
            if sent < 0, errno == EINTR { continue }
            guard sent > 0 else { return }
            rest = rest.dropFirst(sent)
        }
    }

    /// On standard error, with the program's name.
    static func error(_ text: String) {
        let bytes = Array("ublk-script: \(text)\n".utf8)
        _ = unsafe bytes.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
