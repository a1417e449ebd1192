import ArgumentParser
import Glibc

/// `ledger ID`: what the script did to which IO, as the server wrote it down.
struct LedgerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger",
        abstract: "Print what was done to which IO: the ground truth of a test.",
        discussion: """
            One line for each fault that was injected, each heal, each script error and each held IO that was let go.
            A queue keeps the last \(Ledger.usualCapacity) records, or what ledger_size says. What was overwritten before it was read is told on
            standard error, with its number.
            """
    )

    @OptionGroup var device: DeviceArgument

    @Flag(help: "Go on with new records until interrupted, or until the device is gone.")
    var follow = false

    @Flag(help: "One JSON object a line.")
    var json = false

    @Option(help: "Only what happened since that mark was set the last time: ctl ID mark NAME.")
    var since: String?

    func run() throws {
        let id = try device.id()
        let record = try Removal.ownRecord(id)
        var cursor = ""
        while true {
            guard let piece = try ask(id, record, cursor) else { return }
            cursor = piece.cursor
            if !piece.text.isEmpty { try Output.now(piece.text + "\n") }
            if piece.lost > 0 {
                Output.error("\(piece.lost) records were overwritten before they were read")
            }
            guard !piece.hasMore else { continue }
            guard follow else { return }
            usleep(100_000)
        }
    }

    private struct Piece {
        let cursor: String
        let lost: UInt64
        let hasMore: Bool
        let text: String
    }

    /// nil: the device went away while it was followed.
    private func ask(_ id: DeviceID, _ record: DeviceRecord, _ cursor: String) throws -> Piece? {
        let isFirst = cursor.isEmpty
        if follow, !isFirst, !ServerProcess.isAlive(record.serverPID) { return nil }
        let words = ["ledger", json ? "json" : "text", since ?? "", cursor]
        let answer: (ok: Bool, text: String)?
        do {
            let connection = try Removal.connect(id, record, seconds: 15)
            answer = connection.ask(words)
        } catch {
            if follow, !isFirst { return nil }
            throw error
        }
        guard let answer else {
            if follow, !isFirst { return nil }
            throw Failure("the server of device \(id) did not answer within 15 s")
        }
        guard answer.ok else { throw Failure(answer.text) }
        let parts = answer.text.split(
            separator: "\n",
            maxSplits: 1,
            omittingEmptySubsequences: false
        )
        let head = parts.first?.split(separator: " ") ?? []
        guard head.count == 3, let lost = UInt64(head[1]) else {
            throw Failure(
                "the server of device \(id) gave an answer that is none: is it of another version?"
            )
        }
        return Piece(
            cursor: String(head[0]),
            lost: lost,
            hasMore: head[2] == "more",
            text: parts.count > 1 ? String(parts[1]) : ""
        )
    }
}
