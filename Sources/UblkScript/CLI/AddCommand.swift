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
    }

    func run() throws {
        // Wrong input is refused here, before a process is started.
        let overrides = try options.overrides()
        let id = try options.id()
        try options.checkQueues(overrides)
        let source: ScriptSource
        let queues: UInt16
        do {
            source = try options.source()
            queues = try LoadedScript.plan(source, overrides: overrides).config.queues
        } catch { throw Failure(error) }
        if foreground {
            try Serving.run(
                source,
                options,
                id: id,
                overrides: overrides,
                ledger: ledger,
                patienceSeconds: try patience.seconds(),
                sink: { _ in LogSink() },
                ready: { try report($0, info: $1, queues: queues) }
            )
        } else {
            let settings =
                options.settingsAsWords() + ledger.words() + ["--patience=\(patience.patience)"]
            try ServerSpawn.start(source, settings) { try reportAnswer($0, queues: queues) }
        }
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

/// Runs the server in this process: shared by `add --foreground` and the hidden `serve`.
enum Serving {
    /// Brings the device up, calls `ready`, and serves until the device is stopped.
    ///
    /// - Parameters:
    ///   - answerFD: the server's end of the socket to `add`, see ``BringUpWatch``; nil: none.
    ///   - sink: opens the log of a device.
    ///   - ready: reports the device to the user; when it throws, the device is deleted again.
    static func run(
        _ source: ScriptSource,
        _ options: ScriptOptions,
        id: DeviceID?,
        overrides: [Setting],
        ledger: LedgerFileOption,
        cookie: UInt64 = DeviceServer.newCookie(),
        patienceSeconds: Int,
        answerFD: Int32? = nil,
        sink: @escaping (DeviceID) throws -> LogSink,
        ready: (DeviceRecord, DeviceInfo) throws -> Void
    ) throws {
        do {
            // Before any thread is started, so that all threads inherit it: those that serve, and those that may
            // hold a lock which these need. When it is refused, the device's log has a warning.
            try? SystemCall.setIOFlusher()
            let signals = try ServerLoop.blockSignals()
            let newFiles = NewFiles()
            let watch = try BringUpWatch(
                Aftermath(cookie: cookie),
                newFiles,
                signalFD: signals,
                answerFD: answerFD
            )
            defer { watch.end() }
            var request = DeviceServer.Request(
                source: source,
                overrides: overrides,
                settings: options.settingsAsWords(),
                id: id,
                ledgerFile: ledger.path,
                cookie: cookie,
                patienceSeconds: patienceSeconds,
                encode: { JSON.encode($0) },
                openLog: sink
            )
            request.newFiles = newFiles
            let server = try DeviceServer(request)
            let record = try server.bringUp()
            watch.end()
            do { try ready(record, server.info) } catch {
                // Otherwise there would be a device that the user was not told of.
                try server.takeDown(deletes: true, patienceSeconds: patienceSeconds)
                server.removeNewFiles()
                throw error
            }
            // From here on a stuck script must not end the process, as it serves a device.
            LoadWatch.setOnStuck(nil)
            var loop = ServerLoop(server, signalFD: signals)
            if loop.run() == .givenUp { server.aftermath.endProcess() }
        } catch { throw Failure(error) }
    }
}
