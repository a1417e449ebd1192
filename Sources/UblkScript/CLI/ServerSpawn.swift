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
        let answer = server.readAnswer()
        if answer.hasPrefix("+") {
            do { try report(String(answer.dropFirst())) } catch {
                // Otherwise there would be a device that the user was not told of.
                server.hangUp()
                server.reap()
                throw error
            }
            return server.confirm()
        }
        let status = server.reap()
        guard answer.hasPrefix("-") else {
            do { try Aftermath(cookie: cookie).clean() } catch { Output.error("\(error)") }
            throw Failure(
                "the server process died before the device was up (wait status \(status))"
            )
        }
        throw Failure(String(answer.dropFirst()))
    }
}
