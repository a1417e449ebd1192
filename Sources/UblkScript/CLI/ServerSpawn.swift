import Glibc

/// Starts the server process of a device and waits for its word.
enum ServerSpawn {
    /// The server goes on when it is told that `add` has done its part, and takes the device away otherwise.
    ///
    /// - Parameter report: tells the user of the device; gets its record, as JSON.
    static func start(_ words: [String], report: (String) throws -> Void) throws {
        let cookie = DeviceServer.newCookie()
        let server = try ChildProcess(["serve", "--cookie=\(cookie)"] + words, inNewSession: true)
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
