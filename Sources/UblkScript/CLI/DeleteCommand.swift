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

    @Flag(help: Removal.forceHelp)
    var force = false

    @Flag(
        help: "Also a ublk device without a record here: another program's, or its record is lost."
    )
    var withoutRecord = false

    @OptionGroup var patience: PatienceOption

    func validate() throws {
        if all, device.isGiven {
            throw ValidationError("--all is every device: none is named beside it")
        }
    }

    func run() throws {
        let removal = Removal(force: force, patienceSeconds: try patience.seconds())
        guard all else {
            let id = try device.id()
            guard withoutRecord else { return try removal.delete(id) }
            return try removal.deleteWithoutRecord(id)
        }
        guard !withoutRecord else {
            throw ValidationError(
                "--without-record needs a device: --all is every one with a record"
            )
        }
        var problems: [String] = []
        for id in try ServerClient.state().recordedIDs() {
            do { try removal.delete(id) } catch let failure as Failure {
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

    @Flag(help: Removal.forceHelp)
    var force = false

    @OptionGroup var patience: PatienceOption

    func run() throws {
        let removal = Removal(force: force, patienceSeconds: try patience.seconds())
        try removal.stop(try device.id())
    }
}

/// Taking devices away.
struct Removal {
    static let forceHelp: ArgumentHelp =
        "Also when it is mounted, swap, or beneath another device; a mounted filesystem is shut down."

    let force: Bool
    let patienceSeconds: Int

    /// No progress ends the wait, not this.
    private static let answerSeconds = 1 << 30

    func stop(_ id: DeviceID) throws {
        let server = try ServerClient(id)
        let record = server.record
        guard ServerProcess.isAlive(record.serverPID) else {
            throw Failure("device \(id) has no server any more. Clean it up: ublk-script del \(id)")
        }
        try checkUnused(id)
        do { try ask(server, to: "stop") } catch let failure as Failure {
            // One that ended by itself may have had something to write back.
            guard try killServer(record, failure) else { throw failure }
            // It takes the disk with it, except on kernels that notice late.
            do { try ControlDevice().stop(id, seconds: 75) } catch { throw Failure(error) }
        }
    }

    func delete(_ id: DeviceID) throws {
        let server = try ServerClient(id)
        let record = server.record
        try checkUnused(id)
        if ServerProcess.isAlive(record.serverPID) {
            do {
                try ask(server, to: "del")
                return try Self.reportUsers(id)
            } catch let failure as Failure {
                // Two at once: the other one was served, and there is nothing left to do.
                if Self.isForgotten(record) { return }
                _ = try killServer(record, failure)
            }
        }
        try Self.deleteOrphan(id, record)
        try Self.reportUsers(id)
    }

    /// A device that we have no record of, because the user says so.
    func deleteWithoutRecord(_ id: DeviceID) throws {
        let state = try ServerClient.state()
        guard state.readRecord(id) == nil else {
            throw Failure("device \(id) has a record: ublk-script del \(id) deletes it")
        }
        do {
            let control = try ControlDevice()
            let info = try control.info(of: id)
            if DeviceUsers.isDeleted(id, info) { throw Failure(ServerClient.storyOfDeleted(id)) }
            try checkUnused(id)
            do throws(DeviceError) { try control.delete(id, seconds: patienceSeconds) } catch {
                guard case .timeout = error else { throw error }
                throw Failure(
                    """
                    \(error)
                    Its server is process \(info.serverPID): when that ends, the device goes.
                    """
                )
            }
        } catch { throw Failure(error) }
        state.remove(id)
        try Self.reportUsers(id)
    }

    /// What is mounted, swap or beneath another device is not taken away by a slip.
    private func checkUnused(_ id: DeviceID) throws {
        guard !force else { return }
        let holders = DeviceUsers(of: id).holders
        // A deleted device has only its name left in their tables.
        guard !holders.isEmpty, unsafe access("/sys/block/ublkb\(id)", F_OK) == 0 else { return }
        throw Failure(
            """
            device \(id) is in use: \(holders.joined(separator: "; ")).
            Let that go first (umount, swapoff, dmsetup remove, losetup -d), or give --force, which takes the \
            disk away all the same: a mounted filesystem is shut down, other users get errors
            """
        )
    }

    /// The record is gone, or about another device.
    private static func isForgotten(_ record: DeviceRecord) -> Bool {
        guard let bytes = StateDirectory.standard.readRecord(DeviceID(record.id)) else {
            return true
        }
        return JSON.decode(DeviceRecord.self, bytes)?.cookie != record.cookie
    }

    /// The last resort, when a server does not take its device away: its IOs end with EIO.
    ///
    /// - Returns: false when there is none to kill.
    private func killServer(_ record: DeviceRecord, _ failure: Failure) throws -> Bool {
        let info: DeviceInfo
        do { info = try ControlDevice().info(of: DeviceID(record.id)) } catch {
            throw Failure(error)
        }
        // Pids are used again: only the process that the driver, too, knows as the server. While the device
        // comes up it knows none.
        let isServer =
            info.serverPID == record.serverPID
            || ServerProcess.isServer("\(record.serverPID)", cookie: record.cookie)
        guard info.cookie == record.cookie, isServer, ServerProcess.isAlive(record.serverPID) else {
            return false
        }
        Output.error("\(failure.text)\nkilling the server \(record.serverPID)")
        kill(record.serverPID, SIGKILL)
        if !ServerProcess.waitForExit(record.serverPID, seconds: 5) {
            Output.error(
                "the server \(record.serverPID) does not end yet: it waits in the kernel, as for what its backing does"
            )
        }
        return true
    }

    /// The disk is gone for everybody, but an opener keeps its number until it lets go.
    private static func reportUsers(_ id: DeviceID) throws {
        do {
            let control = try ControlDevice()
            if control.waitUntilGone(id) || StateDirectory.standard.readRecord(id) != nil { return }
        } catch { throw Failure(error) }
        Output.error(ServerClient.storyOfDeleted(id))
    }

    private func ask(_ server: ServerClient, to word: String) throws {
        let id = server.id
        let pid = server.record.serverPID
        var patience = Patience(id, server: pid, seconds: patienceSeconds)
        let connection = try server.connect(seconds: Self.answerSeconds) { patience.goesOn() }
        let answer: (ok: Bool, text: String)
        do throws(AdminConnection.Silence) {
            answer = try connection.ask([word, "\(patienceSeconds)"]) { patience.goesOn() }
        } catch {
            switch error {
            case .late:
                throw Failure(
                    "\(patience.who) did not \(word) it while nothing moved for \(patienceSeconds) s"
                )
            case .ended:
                throw Failure("the server of device \(id) ended before \(word) was done")
            }
        }
        guard answer.ok else { throw Failure(answer.text) }
        if !answer.text.isEmpty { Output.error(answer.text) }
        // Done means that nothing is left, the process included.
        _ = ServerProcess.waitForExit(pid, seconds: 5)
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
