import ArgumentParser
import Glibc
import SystemPackage

/// `del`: deletes a device, whatever state it is in.
struct DeleteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "del",
        abstract: "Delete a device: held IOs end, its server goes."
    )

    @OptionGroup var device: DeviceArgument

    @Flag(name: [.customShort("a"), .long], help: "Every device that ublk-script made.")
    var all = false

    @Flag(help: DeviceRemoval.forceHelp)
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
        let removal = DeviceRemoval(force: force, patienceSeconds: try patience.seconds())
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

/// `stop`: stops a device; its number stays taken until `del`.
struct StopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop",
        abstract: "Stop a device: the disk and its server go, the number stays until del."
    )

    @OptionGroup var device: DeviceArgument

    @Flag(help: DeviceRemoval.forceHelp)
    var force = false

    @Flag(
        help:
            "Only when no program has the disk open; the driver itself looks (from kernel 7.0 on)."
    )
    var safe = false

    @OptionGroup var patience: PatienceOption

    func validate() throws {
        if safe, force {
            throw ValidationError(
                "--safe stops no disk that is in use, and --force does: give one of them"
            )
        }
    }

    func run() throws {
        let removal = DeviceRemoval(force: force, patienceSeconds: try patience.seconds())
        let id = try device.id()
        if safe { try removal.stopIfUnused(id) } else { try removal.stop(id) }
    }
}

/// Stops and deletes devices: by their servers or, when these do not, by ending them.
struct DeviceRemoval {
    static let forceHelp: ArgumentHelp =
        "Also when it is mounted, swap, or beneath another device; a mounted filesystem is shut down."

    let force: Bool
    let patienceSeconds: Int

    /// Practically no time limit of the answer, as ``Patience`` ends the wait.
    private static let answerSeconds = 1 << 30

    func stop(_ id: DeviceID) throws {
        let server = try ServerClient(id)
        let record = server.record
        guard ServerProcess.isAlive(record.serverPID) else {
            throw Failure(Self.withoutServer(record))
        }
        try checkUnused(id)
        do { try ask(server, to: .stop) } catch let failure as Failure {
            // When it is not there to be killed it ended by itself, and writeback may have been lost.
            guard try killServer(record, failure) else { throw failure }
            // The disk goes with the server, except on kernels that notice its end late.
            do { try ControlDevice().stop(id, seconds: 75) } catch { throw Failure(error) }
        }
    }

    /// Why a device without a server is not stopped.
    private static func withoutServer(_ record: DeviceRecord) -> String {
        let id = DeviceID(record.id)
        guard canRecover(record) else {
            return "device \(id) has no server any more. Clean it up: ublk-script del \(id)"
        }
        return """
            device \(id) has no server any more, and waits for one: ublk-script recover \(id) brings it back, \
            ublk-script del \(id) ends it
            """
    }

    private static func canRecover(_ record: DeviceRecord) -> Bool {
        guard let info = try? ControlDevice().info(of: DeviceID(record.id)) else { return false }
        return RecoveredDevice.refusal(record, info, server: nil) == nil
    }

    /// Never ends the server by force: nothing is done to a disk that is in use.
    func stopIfUnused(_ id: DeviceID) throws {
        let server = try ServerClient(id)
        do { try ask(server, to: .stopIfUnused) } catch let failure as Failure {
            let users = DeviceUsers(of: id)
            guard let names = users.names else { throw failure }
            throw Failure("\(failure.text)\nIt is \(names)")
        }
    }

    func delete(_ id: DeviceID) throws {
        let server = try ServerClient(id)
        let record = server.record
        try checkUnused(id, record)
        if ServerProcess.isAlive(record.serverPID) {
            do {
                try ask(server, to: .delete)
                return try Self.reportUsers(id)
            } catch let failure as Failure {
                // Another `del` at the same time has deleted it.
                if Self.isForgotten(record) { return }
                _ = try killServer(record, failure)
            }
        }
        try Self.deleteOrphan(id, record)
        try Self.reportUsers(id)
    }

    /// Deletes a device without a record here (`--without-record`).
    func deleteWithoutRecord(_ id: DeviceID) throws {
        let state = try ServerClient.state()
        guard state.readRecord(id) == nil else {
            throw Failure("device \(id) has a record: ublk-script del \(id) deletes it")
        }
        do {
            let control = try ControlDevice()
            let info = try control.info(of: id)
            if DeviceUsers.isDeleted(id, info) {
                throw Failure(ServerClient.descriptionOfDeleted(id))
            }
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

    /// Refuses, without `--force`, a device that is mounted, used as swap or beneath another device.
    ///
    /// - Parameter record: of a device that may have lost its server, which `recover` would bring back.
    private func checkUnused(_ id: DeviceID, _ record: DeviceRecord? = nil) throws {
        guard !force else { return }
        let holders = DeviceUsers(of: id).holders
        // A deleted device may still be listed as in use, but it has no disk any more.
        guard !holders.isEmpty, unsafe access("/sys/block/ublkb\(id)", F_OK) == 0 else { return }
        var hint = ""
        if let record, !ServerProcess.isAlive(record.serverPID), Self.canRecover(record) {
            hint =
                "Its server died, and what uses it may wait for it: ublk-script recover \(id) brings it back.\n"
        }
        throw Failure(
            """
            device \(id) is in use: \(holders.joined(separator: "; ")).
            \(hint)Let that go first (umount, swapoff, dmsetup remove, losetup -d), or give --force, which takes the \
            disk away all the same: a mounted filesystem is shut down, other users get errors
            """
        )
    }

    /// True when the record has been removed, or is another device's by now.
    private static func isForgotten(_ record: DeviceRecord) -> Bool {
        guard let bytes = StateDirectory.standard.readRecord(DeviceID(record.id)) else {
            return true
        }
        return JSON.decode(DeviceRecord.self, bytes)?.cookie != record.cookie
    }

    /// Kills a server that did not take its device down, as a last resort: the device's IOs end with EIO.
    ///
    /// - Returns: false when the server does not run any more.
    private func killServer(_ record: DeviceRecord, _ failure: Failure) throws -> Bool {
        let info: DeviceInfo
        do { info = try ControlDevice().info(of: DeviceID(record.id)) } catch {
            throw Failure(error)
        }
        // A pid may have been reused: kill only the process that the driver knows as the server, too, or (as the
        // driver knows none while the device comes up) one that was started with the device's cookie.
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

    /// Reports the users that keep the number of the deleted device taken, if any.
    private static func reportUsers(_ id: DeviceID) throws {
        do {
            let control = try ControlDevice()
            if control.waitUntilGone(id) || StateDirectory.standard.readRecord(id) != nil { return }
        } catch { throw Failure(error) }
        Output.error(ServerClient.descriptionOfDeleted(id))
    }

    private func ask(_ server: ServerClient, to verb: AdminCall.Verb) throws {
        let id = server.id
        let pid = server.record.serverPID
        var patience = Patience(id, server: pid, seconds: patienceSeconds)
        let connection = try server.connect(seconds: Self.answerSeconds) {
            patience.shouldContinue()
        }
        let answer: (ok: Bool, text: String)
        do throws(AdminConnection.Silence) {
            answer = try connection.ask(verb, ["\(patienceSeconds)"]) {
                patience.shouldContinue()
            }
        } catch {
            switch error {
            case .late:
                throw Failure(
                    "\(patience.who) did not \(verb.rawValue) it while nothing moved for \(patienceSeconds) s"
                )
            case .ended:
                throw Failure("the server of device \(id) ended before \(verb.rawValue) was done")
            }
        }
        guard answer.ok else { throw Failure(answer.text) }
        if !answer.text.isEmpty { Output.error(answer.text) }
        // The command is done when the process has ended too.
        _ = ServerProcess.waitForExit(pid, seconds: 5)
    }

    /// Deletes a device whose server has died, with its files in the state directory.
    private static func deleteOrphan(_ id: DeviceID, _ record: DeviceRecord) throws {
        let state = StateDirectory.standard
        let kept = state.copy(of: id)
        do throws(DeviceError) {
            let control = try ControlDevice()
            let isOurs = try control.info(of: id).cookie == record.cookie
            // Before DEL, because afterwards another device may have the number and these file names.
            state.remove(id)
            guard isOurs else {
                return Output.error(
                    "device \(id) was gone; the one that has its number now is another program's and is left alone"
                )
            }
            // Kernels before 6.15 notice the death of a server that holds every IO only at the
            // request timeout of 30 s.
            try control.delete(id, seconds: 75)
        } catch {
            if error.errno == .operationNotSupportedByDevice { return state.remove(id) }
            state.putBack(kept, of: id)
            throw Failure(error)
        }
    }
}
