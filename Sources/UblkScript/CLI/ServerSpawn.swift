import Glibc
import SystemPackage

/// Starts the server process of a device.
enum ServerSpawn {
    /// Starts the server, waits until the device is up, and reports that to the user.
    ///
    /// The server deletes the device again unless it is told that the report succeeded.
    ///
    /// - Parameters:
    ///   - settings: settings as words of a command line.
    ///   - report: reports the device to the user, given its record as JSON.
    static func start(
        _ source: ScriptSource,
        _ settings: [String],
        report: (String) throws -> Void
    ) throws {
        // The server gets the text itself: what was checked is what runs, and a pipe cannot be read again.
        let text: Int32
        do throws(Errno) {
            text = try SystemCall.memoryFile(source.text, name: "ublk-script")
        } catch {
            throw Failure(
                """
                the script could not be handed to its server by a file in memory: \(error) (\(error.name)). \
                See: ulimit -f (a limit on files holds for it, too), free -m
                """
            )
        }
        defer { close(text) }
        let cookie = DeviceServer.newCookie()
        let server = try ChildProcess(
            ["serve", "--cookie=\(cookie)", "--origin=\(source.origin.rawValue)", source.path]
                + settings,
            inNewSession: true,
            input: text
        )
        guard let died = try answer(of: server, report, isNew: true) else { return }
        do { try Aftermath(cookie: cookie).clean() } catch { Output.error("\(error)") }
        throw Failure("the server process died before the device was up (wait status \(died))")
    }

    /// The process of a server ended without a word, before the device was up.
    struct Died: Error {
        let text: String
    }

    /// Starts another server for a device whose server died, and reports as ``start(_:_:report:)`` does.
    ///
    /// What fails leaves the device as it is; one that could not be reported is served all the same.
    ///
    /// - Parameter deaths: ``ServerGuard/deaths``
    /// - Throws: ``Died``, or a ``Failure``.
    static func startAgain(
        _ record: DeviceRecord,
        deaths: Int,
        report: (String) throws -> Void
    ) throws {
        let server = try ChildProcess(
            ["serve-again", "--cookie=\(record.cookie)", "--deaths=\(deaths)", "\(record.id)"],
            inNewSession: true
        )
        guard let died = try answer(of: server, report, isNew: false) else { return }
        throw Died(
            text:
                "the server process died before it served device \(record.id) (wait status \(died))"
        )
    }

    /// Waits for the server's answer, and reports it.
    ///
    /// - Returns: the wait status of a server that died without an answer; nil: it serves.
    private static func answer(
        of server: borrowing ChildProcess,
        _ report: (String) throws -> Void,
        isNew: Bool
    ) throws -> Int32? {
        let answer: String
        do throws(Errno) { answer = try server.readAnswer() } catch {
            // So it is not confirmed: a new device is taken away again, one that is served again stays.
            server.hangUp()
            if isNew { server.reap() }
            throw Failure(
                "the answer of the server process cannot be read: \(error) (\(error.name)). See: ublk-script list"
            )
        }
        if answer.hasPrefix("+") {
            do { try report(String(answer.dropFirst())) } catch {
                guard isNew else { throw error }
                // Otherwise there would be a device that the user was not told of.
                server.hangUp()
                server.reap()
                throw error
            }
            server.confirm()
            return nil
        }
        let status = server.reap()
        guard answer.hasPrefix("-") else { return status }
        throw Failure(String(answer.dropFirst()))
    }
}
