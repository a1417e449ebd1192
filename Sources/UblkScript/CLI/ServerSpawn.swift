import Glibc
import SystemPackage

/// Starts the server process of a device and waits for its word.
enum ServerSpawn {
    /// The server goes on when it is told that `add` has done its part, and takes the device away otherwise.
    ///
    /// - Parameter settings: as words of the command line.
    /// - Parameter report: tells the user of the device; gets its record, as JSON.
    static func start(
        _ source: ScriptSource,
        _ settings: [String],
        report: (String) throws -> Void
    ) throws {
        // The text itself, in memory: what was checked is what runs, and a pipe cannot be read again.
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
                // Nobody would know of the device.
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
