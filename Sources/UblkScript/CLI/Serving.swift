import ArgumentParser
import Glibc
import SystemPackage

/// Runs a server in this process: shared by `add` and `recover` with `--foreground`, and the hidden `serve` and
/// `serve-again`.
enum Serving {
    /// Brings the device up, calls `ready`, and serves until the device is stopped.
    ///
    /// - Parameters:
    ///   - answerFD: the server's end of the socket to the command, see ``BringUpWatch``; nil: none.
    ///   - ready: reports the device to the user; when it throws, a new device is deleted again, and one that was
    ///     recovered is without a server again when this process ends.
    static func run(
        _ request: DeviceServer.Request,
        answerFD: Int32? = nil,
        ready: (DeviceRecord, DeviceInfo) throws -> Void
    ) throws {
        let isNew = request.recovered == nil
        do {
            // Before any thread is started, so that all threads inherit it: those that serve, and those that may
            // hold a lock which these need. When it is refused, the device's log has a warning.
            try? SystemCall.setIOFlusher()
            // For all threads, too. What must not be refused for it: a server without these rights, or in a chroot.
            do throws(Errno) { try MountNamespace.leave() } catch {
                throw Failure(
                    "the server cannot have a mount namespace of its own: \(error) (\(error.name)); try again"
                )
            }
            let signals = try ServerLoop.blockSignals()
            let watch = try BringUpWatch(
                isNew ? Aftermath(cookie: request.cookie) : nil,
                request.newFiles,
                signalFD: signals,
                answerFD: answerFD
            )
            defer { watch.end() }
            let server = try DeviceServer(request)
            let record = try server.bringUp()
            watch.end()
            do { try ready(record, server.info) } catch {
                guard isNew else { throw error }
                // Otherwise there would be a device that the user was not told of.
                try server.takeDown(deletes: true, patienceSeconds: request.patienceSeconds)
                server.removeNewFiles()
                throw error
            }
            // From here on a stuck script must not end the process, as it serves a device.
            LoadWatch.setOnStuck(nil)
            var loop = ServerLoop(server, signalFD: signals)
            let ending = loop.run()
            server.outside.endGuard(of: server.id)
            if ending == .givenUp { server.aftermath.endProcess() }
        } catch { throw Failure(error) }
    }
}

extension ScriptOptions {
    /// What `add` asks a server for.
    func request(
        _ source: ScriptSource,
        _ ledger: LedgerFileOption,
        _ patience: PatienceOption,
        _ restart: RestartOption,
        openLog: @escaping (DeviceID) throws -> LogSink
    ) throws -> DeviceServer.Request {
        DeviceServer.Request(
            source: source,
            overrides: try overrides(),
            settings: settingsAsWords(),
            id: try id(),
            ledgerFile: ledger.path,
            deaths: restart.restart ? 0 : nil,
            patienceSeconds: try patience.seconds(),
            encode: { JSON.encode($0) },
            openLog: openLog
        )
    }
}

extension DeviceServer.Request {
    /// What it takes to serve a device again whose server died, from its record and the script beside that.
    ///
    /// - Parameter deaths: ``ServerGuard/deaths``
    /// - Throws: ``Failure`` when the script cannot be read.
    init(
        recovering record: DeviceRecord,
        deaths: Int,
        openLog: @escaping (DeviceID) throws -> LogSink
    ) throws {
        let path = record.loadedScript ?? ""
        let text: [UInt8]
        do throws(WholeFile.Problem) {
            text = try WholeFile.read(
                path,
                bytesMax: ScriptSource.bytesMax,
                takesPipe: false,
                whenSilent: {}
            ).bytes
        } catch {
            throw Failure(
                "device \(record.id): the script that it ran cannot be read from \(path) (\(error))"
            )
        }
        var source = ScriptSource(
            path: record.script,
            text: text,
            origin: record.origin ?? .file,
            recordedPath: record.script
        )
        source.directory = record.directory ?? source.directory
        self.init(
            source: source,
            overrides: try ScriptOptions.parse(["script"] + record.settings).overrides(),
            settings: record.settings,
            id: DeviceID(record.id),
            ledgerFile: record.ledgerFile,
            recovered: record,
            deaths: record.restarts == true ? deaths : nil,
            cookie: record.cookie,
            encode: { JSON.encode($0) },
            openLog: openLog
        )
        patienceSeconds = record.patienceSeconds ?? patienceSeconds
    }
}
