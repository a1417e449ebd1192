import Glibc

/// The server of a device of ours, as the commands see it: its record, and what it answers.
struct ServerClient {
    let id: DeviceID
    let record: DeviceRecord

    /// Longer than the server itself waits for its queues.
    static let questionSeconds = 30

    /// - Throws: ``Failure`` when the device is not one of ours, or its record cannot be read.
    init(_ id: DeviceID) throws {
        self.id = id
        record = try Self.ownRecord(id)
    }

    /// The state directory, when it is one to be believed.
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
        if DeviceUsers.isDeleted(id, info) { throw Failure(storyOfDeleted(id)) }
        throw Failure(
            """
            device \(id) was not made by ublk-script (no \(state.recordPath(id))): use the tool that made it, \
            or ublk-script del \(id) --without-record
            """
        )
    }

    /// Why the number of a deleted device is still taken.
    static func storyOfDeleted(_ id: DeviceID) -> String {
        "device \(id) is \(DeviceUsers(of: id).storyOfDeleted); its number is free when they let go"
    }

    /// A connection to the server, which may be gone.
    func connect(seconds: Int, goesOn: () -> Bool = { true }) throws -> AdminConnection {
        let path = StateDirectory.standard.socketPath(id)
        let connection = AdminConnection(connectingTo: path, seconds: seconds, goesOn: goesOn)
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

    /// Asks the server, which goes on.
    ///
    /// - Parameter goesOn: asked several times a second; false gives up before the time is over.
    func ask(
        _ words: [String],
        seconds: Int = questionSeconds,
        goesOn: () -> Bool = { true }
    ) throws -> String {
        let connection = try connect(seconds: seconds, goesOn: goesOn)
        let answer: (ok: Bool, text: String)
        do throws(AdminConnection.Silence) {
            answer = try connection.ask(words, goesOn: goesOn)
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

    /// An answer that makes no sense.
    var isOfAnotherVersion: Failure {
        Failure("the server of device \(id) gave an answer that is none: is it of another version?")
    }
}
