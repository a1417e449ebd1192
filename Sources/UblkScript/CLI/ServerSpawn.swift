/// Starts the server process of a device and waits for its word.
enum ServerSpawn {
    /// - Returns: the record, as JSON.
    static func start(_ words: [String]) throws -> String {
        let server = try ChildProcess(["serve"] + words, inNewSession: true)
        let answer = server.readAnswer()
        if answer.hasPrefix("+") { return String(answer.dropFirst()) }
        let status = server.reap()
        guard answer.hasPrefix("-") else {
            Removal.deleteLeftovers(of: server.pid)
            throw Failure(
                "the server process died before the device was up (wait status \(status))"
            )
        }
        throw Failure(String(answer.dropFirst()))
    }
}
