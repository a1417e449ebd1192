import Glibc

/// The client's view of a device's server: the device's record, and requests over the control socket.
struct ServerClient {
    let id: DeviceID
    let record: DeviceRecord

    /// Time limit of a request, which is longer than the server itself waits for its queues.
    static let questionSeconds = 30

    /// - Throws: ``Failure`` when the device is not one of ours, or its record cannot be read.
    init(_ id: DeviceID) throws {
        self.id = id
        record = try Self.ownRecord(id)
    }

    /// The state directory; throws unless it can be trusted (``StateDirectory/check()``).
    static func state() throws -> StateDirectory {
        do throws(DeviceError) { try StateDirectory.standard.check() } catch {
            throw Failure(error)
        }
        return .standard
    }

    private static func ownRecord(_ id: DeviceID) throws -> DeviceRecord {
        let state = try state()
        if let bytes = state.readRecord(id) {
            return try RecordReading(bytes).own(state.recordPath(id), id)
        }
        let info: DeviceInfo
        do { info = try ControlDevice().info(of: id) } catch { throw Failure(error) }
        if DeviceUsers.isDeleted(id, info) { throw Failure(descriptionOfDeleted(id)) }
        if let owner = info.ownerOtherThanRoot, owner != geteuid() {
            throw Failure(
                """
                device \(id) is \(UserName.text(owner))'s, and what there is to know of it is in a folder of his: give \
                the command as that user, or ublk-script del \(id) --without-record as root
                """
            )
        }
        throw Failure(
            """
            device \(id) was not made by ublk-script (no \(state.recordPath(id))): use the tool that made it, \
            or ublk-script del \(id) --without-record
            """
        )
    }

    /// An error text that tells who keeps the number of a deleted device taken.
    static func descriptionOfDeleted(_ id: DeviceID) -> String {
        "device \(id) is \(DeviceUsers(of: id).descriptionOfDeleted); its number is free when they let go"
    }

    /// Connects to the server; throws when it does not run or does not accept connections.
    func connect(seconds: Int, shouldContinue: () -> Bool = { true }) throws -> AdminConnection {
        let path = StateDirectory.standard.socketPath(id)
        let connection = AdminConnection(
            connectingTo: path,
            seconds: seconds,
            shouldContinue: shouldContinue
        )
        if let connection { return connection }
        if Glibc.errno == EAGAIN {
            throw Failure(
                "the server of device \(id) (pid \(record.serverPID)) answers nobody: its queue of callers is full"
            )
        }
        if Glibc.errno == EACCES { throw Failure("\(path) may not be used: this needs root") }
        throw Failure(
            "device \(id) has no server that listens (pid \(record.serverPID)). See: ublk-script list \(id)"
        )
    }

    /// Sends a request and returns the text of the answer; throws when the request is refused or not answered.
    ///
    /// - Parameter shouldContinue: called several times a second; false gives up before the time is over.
    func ask(
        _ verb: AdminCall.Verb,
        _ arguments: [String] = [],
        seconds: Int = questionSeconds,
        shouldContinue: () -> Bool = { true }
    ) throws -> String {
        let connection = try connect(seconds: seconds, shouldContinue: shouldContinue)
        let answer: (ok: Bool, text: String)
        do throws(AdminConnection.Silence) {
            answer = try connection.ask(verb, arguments, shouldContinue: shouldContinue)
        } catch {
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

    /// The error for a server that has ended without having said that it would.
    var hasDied: Failure {
        Failure("the server of device \(id) has died, or was killed. See: ublk-script list \(id)")
    }

    /// The error for an answer that cannot be parsed.
    var isOfAnotherVersion: Failure {
        Failure("the server of device \(id) gave an answer that is none: is it of another version?")
    }
}
