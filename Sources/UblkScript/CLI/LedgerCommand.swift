import ArgumentParser
import Glibc

/// `ledger ID`: prints the ledger: what was done to which IO.
struct LedgerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger",
        abstract: "Print what was done to which IO: the ground truth of a test.",
        discussion: """
            One line for each fault that was injected, each heal, each IO that failed unasked and each held IO that was \
            let go. A queue keeps the last \(Ledger.usualCapacity) records, or what ledger_size of device{} says; add \
            --ledger FILE keeps all. How many were overwritten before they were read, and whose, is told on standard error.

            Of --rule, --op, --action and --range each may be given several times; what fits one of them fits. \
            Actions: \(LedgerRecord.actions.joined(separator: " ")).
            """
    )

    @OptionGroup var device: DeviceArgument

    @Flag(help: "Go on with new records until interrupted, or until the device is gone.")
    var follow = false

    @Flag(help: "One JSON object a line.")
    var json = false

    @Option(help: "Only what happened since that mark was set the last time: ctl ID mark NAME.")
    var since: String?

    @Option(help: "Only of rules of that name or line, or of a handler, as in 'read()'.")
    var rule: [String] = []

    @Option(
        help: "Only of such IOs: read, write, flush, discard, write_zeroes.",
        completion: .list(IOOp.allCases.map(\.name))
    )
    var op: [String] = []

    @Option(
        help: "Only where that was done: fail, delay, healed, ...",
        completion: .list(LedgerRecord.actions)
    )
    var action: [String] = []

    @Option(help: "Only of IOs that touch these bytes, as in 8M+4K.")
    var range: [String] = []

    @Option(help: "Only from that time of the device's clock on, as in 12.5s.")
    var from: String?

    @Option(help: "Only up to that time of the device's clock.")
    var until: String?

    func run() throws {
        let filter = filterWords
        do throws(ConfigError) { _ = try LedgerFilter(filter) } catch {
            throw ValidationError("\(error)")
        }
        let id = try device.idOrSole()
        let server = try ServerClient(id)
        var cursor = ""
        var lost: UInt64 = 0
        var overwritten = ""
        while true {
            guard let page = try ask(server, cursor, filter) else { return }
            cursor = page.cursor
            if page.lost > 0 { (lost, overwritten) = (lost + page.lost, page.overwritten) }
            if !page.text.isEmpty {
                if json { Output.line(page.text) } else { Output.record(page.text) }
                try Output.flush()
            }
            guard !page.hasMore else { continue }
            if lost > 0 {
                Output.error(
                    "\(lost) records were overwritten before they were read. "
                        + "Overwritten so far: \(overwritten)"
                )
            }
            lost = 0
            guard follow else { return }
            usleep(100_000)
        }
    }

    private var filterWords: [String] {
        let lists = [("rule", rule), ("op", op), ("action", action), ("range", range)]
        return lists.flatMap { key, values in values.map { "\(key)=\($0)" } }
            + [("from", from), ("until", until)].compactMap { key, value in
                value.map { "\(key)=\($0)" }
            }
    }

    /// Asks for the next page; nil when the device was deleted while it was followed.
    private func ask(
        _ server: ServerClient,
        _ cursor: String,
        _ filter: [String]
    ) throws -> LedgerPage? {
        let isFirst = cursor.isEmpty
        let pid = server.record.serverPID
        if follow, !isFirst, !ServerProcess.isAlive(pid) { return nil }
        let words = [json ? "json" : "text", since ?? "", cursor] + filter
        let answer: String
        do { answer = try server.ask(.ledger, words) } catch {
            // Following ends when the device is being deleted.
            if follow, !isFirst, ServerProcess.waitForExit(pid, seconds: 5) {
                return nil
            }
            throw error
        }
        guard let page = LedgerPage(lines: answer) else { throw server.isOfAnotherVersion }
        return page
    }
}
