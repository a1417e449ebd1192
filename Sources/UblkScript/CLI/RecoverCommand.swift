import ArgumentParser
import Glibc
import SystemPackage

/// `recover ID`: serves a device again whose server died.
struct RecoverCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recover",
        abstract: "Serve a device again whose server died.",
        discussion: """
            The device has to have been added with recovery=wait, reissue or fail. It gets the script that it ran (as it \
            was then, whatever has become of its file), the same settings, seed and files; random choices and counts \
            begin anew. When anything fails, the device goes on waiting.
            """
    )

    @OptionGroup var device: DeviceArgument

    @Flag(help: "Serve in this process, log to the terminal; Ctrl-C deletes the device.")
    var foreground = false

    @Flag(help: "Print nothing when it worked.")
    var quiet = false

    @Flag(help: "Print the entry as JSON.")
    var json = false

    @OptionGroup var deaths: DeathsOption

    /// A server that was killed a moment ago may still be about to end.
    private static let dyingSeconds = 0.5

    func validate() throws {
        if quiet, json {
            throw ValidationError("--quiet prints nothing, --json something: not both")
        }
    }

    func run() throws {
        var deaths = deaths.deaths
        while true {
            do { return try serve(deaths) } catch let error as ServerSpawn.Died {
                deaths += 1
                // One that died as it came up has nobody beside it yet who would see that.
                guard deaths > 1, deaths <= ServerGuard.deathsMax else { throw Failure(error.text) }
                Output.error("\(error.text): another one is started")
            }
        }
    }

    /// - Throws: ``ServerSpawn/Died``, or a ``Failure``.
    private func serve(_ deaths: Int) throws {
        let id = try device.idOrSole()
        let record = try ServerClient(id).record
        try Self.waitForDeath(record)
        // Where the device's relative paths lead; the server has the folder from this process.
        if let folder = record.directory, !folder.isEmpty, unsafe chdir(folder) != 0 {
            throw Failure(
                "device \(id) was added in \(folder), which cannot be gone to: \(Errno(rawValue: errno))"
            )
        }
        let request = try DeviceServer.Request(recovering: record, deaths: deaths) { _ in
            LogSink()
        }
        // What is wrong is told here, before a process is started.
        do { _ = try DeviceServer.plan(request) } catch {
            throw Failure("device \(id) is not recovered: \(error)")
        }
        if foreground {
            try Serving.run(request) { try report($0, $1) }
        } else {
            try ServerSpawn.startAgain(record, deaths: deaths) { answer in
                guard let record = JSON.decode(DeviceRecord.self, Array(answer.utf8)) else {
                    throw Failure("the server's answer makes no sense: \(answer)")
                }
                try report(record, try Self.info(id))
            }
        }
    }

    private func report(_ record: DeviceRecord, _ info: DeviceInfo) throws {
        guard !quiet else { return }
        var listing = DeviceListing(info, id: DeviceID(record.id), record: record)
        // The server has nothing to report yet, and is waiting for us.
        listing.take(ServerStatus())
        try Output.now((json ? JSON.text(listing) : listing.text) + "\n")
    }

    /// Waits until the driver has noticed that the device's server is dead; throws when it is not, or when there is
    /// another reason not to recover the device.
    private static func waitForDeath(_ record: DeviceRecord) throws {
        let id = DeviceID(record.id)
        var dying = TimeLimit(seconds: dyingSeconds)
        var limit = TimeLimit(seconds: RecoveredDevice.deathSeconds)
        var hasTold = false
        while true {
            let info = try Self.info(id)
            let server = [info.serverPID, record.serverPID].first(where: ServerProcess.isAlive)
            let refusal = RecoveredDevice.refusal(record, info, server: server)
            let mayBeDying = server != nil && info.state == .live
            if let refusal, !mayBeDying || dying.isOver() { throw Failure(refusal) }
            if refusal == nil, info.state != .live { return }
            guard !limit.isOver() else {
                throw Failure(
                    "the driver has not noticed that the server of device \(id) is dead: try again later"
                )
            }
            if server == nil, !hasTold {
                hasTold = true
                Output.error(
                    "waiting for the driver to notice that the server of device \(id) is dead (up to 30 s)"
                )
            }
            usleep(20_000)
        }
    }

    private static func info(_ id: DeviceID) throws -> DeviceInfo {
        do { return try ControlDevice().info(of: id) } catch { throw Failure(error) }
    }
}
