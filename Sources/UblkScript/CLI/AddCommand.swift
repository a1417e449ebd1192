import ArgumentParser
import Glibc
import SystemPackage

/// `add SCRIPT`: makes the device and returns when it is live.
struct AddCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Make a block device of a script.",
        discussion: """
            A server process is started for the device; add returns when /dev/ublkbN is there and prints \
            its entry of list. When anything fails, nothing is left behind.
            """
    )

    @OptionGroup var options: ScriptOptions

    @OptionGroup var ledger: LedgerFileOption

    @OptionGroup var restart: RestartOption

    @Flag(help: "Serve in this process, log to the terminal; Ctrl-C deletes the device.")
    var foreground = false

    @OptionGroup var patience: PatienceOption

    @Flag(help: "Print nothing when it worked.")
    var quiet = false

    @Flag(help: "Print the entry as JSON.")
    var json = false

    func validate() throws {
        if quiet, json {
            throw ValidationError("--quiet prints nothing, --json something: not both")
        }
        if foreground, restart.restart {
            throw ValidationError(
                "--restart starts servers in the background, --foreground serves here: not both"
            )
        }
    }

    func run() throws {
        // Wrong input is refused here, before a process is started.
        let overrides = try options.overrides()
        _ = try options.id()
        try options.checkQueues(overrides)
        let source: ScriptSource
        let config: DeviceConfig
        do {
            source = try options.source()
            config = try LoadedScript.plan(source, overrides: overrides).config
        } catch { throw Failure(error) }
        let queues = config.queues
        guard !restart.restart || config.recovery != .off else {
            throw Failure(
                "--restart: the device would end with its server: add it with recovery=wait, reissue or fail, too"
            )
        }
        try lookAtKernel()
        if foreground {
            let request = try options.request(
                source,
                ledger,
                patience,
                restart,
                openLog: { _ in LogSink() }
            )
            try Serving.run(request) { try report($0, info: $1, queues: queues) }
        } else {
            let settings =
                options.settingsAsWords() + ledger.words() + restart.words()
                + ["--patience=\(patience.patience)"]
            try ServerSpawn.start(source, settings) { try reportAnswer($0, queues: queues) }
        }
    }

    /// Says what is wrong with the kernel, or refuses to use it.
    private func lookAtKernel() throws {
        let release = KernelFlaw.runningRelease
        guard let flaw = KernelFlaw.of(release: release) else { return }
        guard !flaw.isFatal else { throw Failure(flaw.text(release)) }
        Output.error(flaw.text(release))
    }

    private func reportAnswer(_ answer: String, queues: UInt16) throws {
        guard let record = JSON.decode(DeviceRecord.self, Array(answer.utf8)) else {
            throw Failure("the server's answer makes no sense: \(answer)")
        }
        do {
            let info = try ControlDevice().info(of: DeviceID(record.id))
            try report(record, info: info, queues: queues)
        } catch { throw Failure(error) }
    }

    /// - Parameter queues: the number of queues that the script asks for.
    private func report(_ record: DeviceRecord, info: DeviceInfo, queues: UInt16) throws {
        if info.queues < queues {
            Output.error(
                "device \(record.id) has \(info.queues) queues, not the \(queues) of the script: "
                    + "the driver gives at most one to a CPU"
            )
        }
        guard !quiet else { return }
        var listing = DeviceListing(info, id: DeviceID(record.id), record: record)
        // The server has nothing to report yet, and is waiting for us.
        listing.take(ServerStatus())
        try Output.now((json ? JSON.text(listing) : listing.text) + "\n")
    }
}
