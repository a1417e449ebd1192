import ArgumentParser
import Glibc
import SystemPackage

/// `del`: takes a device away, whatever state it is in.
struct DeleteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "del",
        abstract: "Delete a device: held IOs end, its server goes."
    )

    @OptionGroup var device: DeviceArgument

    @Flag(name: [.customShort("a"), .long], help: "Every device that ublk-script made.")
    var all = false

    func validate() throws {
        if all, device.isGiven {
            throw ValidationError("--all is every device: none is named beside it")
        }
    }

    func run() throws {
        guard all else { return try Removal.delete(try device.id()) }
        var problems: [String] = []
        for id in StateDirectory.standard.recordedIDs() {
            do { try Removal.delete(id) } catch let failure as Failure {
                problems.append(failure.text)
            }
        }
        guard problems.isEmpty else { throw Failure(problems.joined(separator: "\n")) }
    }
}

/// `stop`: the disk goes, its number stays until `del`.
struct StopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop",
        abstract: "Stop a device: the disk and its server go, the number stays until del."
    )

    @OptionGroup var device: DeviceArgument

    func run() throws {
        let id = try device.id()
        let record = try Removal.ownRecord(id)
        guard ServerProcess.isAlive(record.serverPID) else {
            throw Failure("device \(id) has no server any more. Clean it up: ublk-script del \(id)")
        }
        try Removal.askServer("stop", id, record)
    }
}

/// Taking devices away.
enum Removal {
    /// The server waits as long as writeback goes on, and answers when it does not.
    private static let answerSeconds = 3600

    /// Longer than the server itself waits for its queues.
    static let questionSeconds = 30

    static func delete(_ id: DeviceID) throws {
        let record = try ownRecord(id)
        if ServerProcess.isAlive(record.serverPID) {
            do {
                try askServer("del", id, record)
                return try reportUsers(id)
            } catch let failure as Failure {
                // Two at once: the other one was served, and there is nothing left to do.
                if isForgotten(record) { return }
                try killServer(record, failure)
            }
        }
        try deleteOrphan(id, record)
        try reportUsers(id)
    }

    /// The record is gone, or about another device.
    private static func isForgotten(_ record: DeviceRecord) -> Bool {
        guard let bytes = StateDirectory.standard.readRecord(DeviceID(record.id)) else {
            return true
        }
        return JSON.decode(DeviceRecord.self, bytes)?.cookie != record.cookie
    }

    /// The last resort, when a server does not take its device away: its IOs end with EIO.
    private static func killServer(_ record: DeviceRecord, _ failure: Failure) throws {
        let info: DeviceInfo
        do { info = try ControlDevice().info(of: DeviceID(record.id)) } catch {
            throw Failure(error)
        }
        // Pids are used again: only the process that the driver, too, knows as the server.
        guard info.cookie == record.cookie, info.serverPID == record.serverPID else { return }
        Output.error("\(failure.text)\nkilling the server \(record.serverPID)")
        kill(record.serverPID, SIGKILL)
        _ = ServerProcess.waitForExit(record.serverPID, seconds: 5)
    }

    /// The disk is gone for everybody, but an opener keeps its number until it lets go.
    private static func reportUsers(_ id: DeviceID) throws {
        do {
            let control = try ControlDevice()
            if control.waitUntilGone(id) || StateDirectory.standard.readRecord(id) != nil { return }
        } catch { throw Failure(error) }
        Output.error(
            """
            device \(id) is deleted; its number stays taken until the last user of \(id.blockPath) lets go.
            See: findmnt -S \(id.blockPath); fuser \(id.blockPath)
            """
        )
    }

    /// The record of a device of ours.
    static func ownRecord(_ id: DeviceID) throws -> DeviceRecord {
        let state = StateDirectory.standard
        if let bytes = state.readRecord(id) {
            if let record = JSON.decode(DeviceRecord.self, bytes) { return record }
            throw Failure(
                """
                \(state.recordPath(id)) is damaged, so that nothing tells whether device \(id) is ours.
                If it is: end its server with SIGTERM, which deletes it (ps -C ublk-script), and remove the file.
                """
            )
        }
        do {
            _ = try ControlDevice().info(of: id)
        } catch { throw Failure(error) }
        throw Failure(
            "device \(id) was not made by ublk-script (no \(state.recordPath(id))): use the tool that made it"
        )
    }

    /// A connection to the device's server.
    static func connect(
        _ id: DeviceID,
        _ record: DeviceRecord,
        seconds: Int
    ) throws -> AdminConnection {
        let path = StateDirectory.standard.socketPath(id)
        if let connection = AdminConnection(connectingTo: path, seconds: seconds) {
            return connection
        }
        if Glibc.errno == EACCES { throw Failure("\(path) may not be used: this needs root") }
        throw Failure(
            "device \(id) has no server that listens (pid \(record.serverPID)). See: ublk-script list \(id)"
        )
    }

    /// Asks the device's server, which goes on.
    static func ask(
        _ words: [String],
        _ id: DeviceID,
        _ record: DeviceRecord,
        seconds: Int
    ) throws -> String {
        let connection = try connect(id, record, seconds: seconds)
        let answer: (ok: Bool, text: String)
        do throws(AdminConnection.Silence) { answer = try connection.ask(words) } catch {
            switch error {
            case .late:
                throw Failure("the server of device \(id) did not answer within \(seconds) s")
            case .ended:
                throw Failure(
                    "the server of device \(id) ended before it answered. See: ublk-script list \(id)"
                )
            }
        }
        guard answer.ok else { throw Failure(answer.text) }
        return answer.text
    }

    static func askServer(_ word: String, _ id: DeviceID, _ record: DeviceRecord) throws {
        let connection = try connect(id, record, seconds: answerSeconds)
        guard let answer = try? connection.ask([word]) else {
            throw Failure(
                "the server of device \(id) ended or fell silent before \(word) was done"
            )
        }
        guard answer.ok else { throw Failure(answer.text) }
        if !answer.text.isEmpty { Output.error(answer.text) }
        // Done means that nothing is left, the process included.
        _ = ServerProcess.waitForExit(record.serverPID, seconds: 5)
    }

    /// A server that died on its way up could not undo what it had done.
    static func deleteLeftovers(of server: Int32) {
        let state = StateDirectory.standard
        for id in state.recordedIDs() {
            guard let bytes = state.readRecord(id),
                let record = JSON.decode(DeviceRecord.self, bytes), record.serverPID == server
            else { continue }
            do {
                try deleteOrphan(id, record)
                try reportUsers(id)
            } catch { Output.error("\(error)") }
        }
    }

    /// The server is dead: the driver may still have the device, and we have its files.
    private static func deleteOrphan(_ id: DeviceID, _ record: DeviceRecord) throws {
        let state = StateDirectory.standard
        do throws(DeviceError) {
            let control = try ControlDevice()
            let isOurs = try control.info(of: id).cookie == record.cookie
            // Before DEL: afterwards the number, and with it these names, may be another device's.
            state.remove(id)
            guard isOurs else {
                return Output.error(
                    "device \(id) was gone; the one that has its number now is another program's and is left alone"
                )
            }
            // Kernels before 6.15 notice a death with every IO held only at the 30 s request
            // timeout.
            try control.delete(id, seconds: 75)
        } catch {
            if error.errno == .operationNotSupportedByDevice { return state.remove(id) }
            try? state.writeRecord(JSON.encode(record), of: id)
            throw Failure(error)
        }
    }
}
