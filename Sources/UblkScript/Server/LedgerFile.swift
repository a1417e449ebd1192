import CUring
import Glibc
import Logging
import Synchronization
import SystemPackage

/// Writes the ledger to a file as JSON lines: `add --ledger FILE`.
///
/// A separate thread copies records out of the queues' rings 50 times a second, so that neither a queue nor the main
/// thread waits for the disk. When a write fails (a full disk, a limit), the log says so, and the write is retried
/// every second; records that the rings overwrite meanwhile are counted in a line of the file.
final class LedgerFile: Sendable {
    let path: String
    private let fd: Int32
    /// An eventfd that is set when the last record is in the rings.
    private let stopFD: Int32
    /// Fulfilled when the writer ends: nil, or why the last records could not be written.
    private let ended = Promise<String?>()
    private let isStarted = Atomic(false)
    private let format = Mutex<LedgerText?>(nil)
    /// The file has the records of a server that died.
    private let continues: Bool

    private static let pauseMilliseconds: Int32 = 20
    private static let retryMilliseconds: Int32 = 1000
    /// The most records that are formatted and written at a time.
    private static let pieceMax = 1000
    /// How long the server waits for the disk when it ends.
    private static let patienceSeconds = 10.0

    /// Creates the file, or opens an empty one; refuses any other.
    ///
    /// - Parameters:
    ///   - newFiles: is told of a file that is created.
    ///   - continues: goes on with a file that a server wrote which died.
    init(path: String, newFiles: NewFiles, continues: Bool = false) throws(DeviceError) {
        self.path = path
        self.continues = continues
        do throws(Errno) { stopFD = try SystemCall.makeEventFD() } catch {
            throw .system(call: "eventfd", path: "", error)
        }
        if let folder = AbsolutePath.kernelFolder(of: path), unsafe access(path, F_OK) != 0 {
            throw .unsupported("\(path): no file is made below \(folder)")
        }
        // Not O_EXCL alone: the user may have made an empty file with the wanted owner and mode.
        let flags = (continues ? O_RDWR : O_WRONLY) | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC
        var fd = newFiles.make(path) { unsafe open(path, flags | O_CREAT | O_EXCL, 0o600) }
        if fd < 0, Glibc.errno == EEXIST { fd = unsafe open(path, flags) }
        guard fd >= 0 else {
            throw .system(call: "open", path: path, Errno(rawValue: Glibc.errno))
        }
        self.fd = fd
        var status = stat()
        guard unsafe fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw .unsupported("\(path): the ledger is written to a regular file")
        }
        guard status.st_size == 0 || continues else {
            throw .unsupported(
                "\(path) is not empty: remove it, or name another file for the ledger"
            )
        }
    }

    deinit {
        close(fd)
        if stopFD >= 0 { close(stopFD) }
    }

    /// Sets the format of records from now on.
    func tell(_ format: LedgerText) { self.format.withLock { $0 = format } }

    /// Starts the writer's thread; call once.
    func start(_ ledgers: [Ledger], _ lines: LinePipe) throws(DeviceError) {
        // An error comes again with the first record.
        if continues { _ = StateDirectory.write(Array(recoveredLine.utf8), to: fd) }
        do throws(Errno) {
            _ = try OSThread(trying: "ublk-ledger") { self.run(ledgers, lines) }
        } catch { throw DeviceServer.noThread("the ledger file", error) }
        isStarted.store(true, ordering: .relaxed)
    }

    /// The line that tells of this server, after what the dead one may have left of a line.
    private var recoveredLine: String {
        var last = UInt8(ascii: "\n")
        let end = lseek(fd, 0, SEEK_END)
        if end > 0 { _ = unsafe pread(fd, &last, 1, end - 1) }
        return (last == UInt8(ascii: "\n") ? "" : "\n") + LedgerText.recoveredLine + "\n"
    }

    /// Writes the remaining records and ends the thread; call when the queues have ended.
    ///
    /// - Returns: why records are missing in the file; nil: none are.
    func finish() -> String? {
        guard isStarted.exchange(false, ordering: .relaxed) else { return nil }
        SystemCall.notify(stopFD)
        guard let outcome = ended.wait(seconds: Self.patienceSeconds) else {
            return
                "\(path): the disk did not take the rest of the ledger within \(Self.patienceSeconds) s"
        }
        return outcome
    }

    // MARK: The writer's thread

    private func run(_ ledgers: [Ledger], _ lines: LinePipe) {
        var reader = LedgerReader()
        var rest: [UInt8] = []
        var failure: Errno?
        var isLast = false
        while true {
            if rest.isEmpty {
                let piece = reader.read(ledgers, limit: Self.pieceMax)
                rest = text(piece, ledgers)
                if piece.entries.isEmpty, !piece.hasMore, isLast { return ended.fulfil(nil) }
            }
            let problem = put(&rest)
            if problem != failure { tellOf(problem, lines) }
            failure = problem
            if isLast, let failure {
                return ended.fulfil("\(path): \(failure.name): the last records are missing")
            }
            if !isLast {
                isLast = waits(failure, isIdle: rest.isEmpty && !hasMore(reader, ledgers))
            }
        }
    }

    private func hasMore(_ reader: LedgerReader, _ ledgers: [Ledger]) -> Bool {
        zip(reader.next, ledgers).contains { $0 < $1.total }
    }

    /// Pauses, unless there is more to write.
    ///
    /// - Returns: true when the queues have ended.
    private func waits(_ failure: Errno?, isIdle: Bool) -> Bool {
        var event = pollfd(fd: stopFD, events: Int16(POLLIN), revents: 0)
        let pause = failure != nil ? Self.retryMilliseconds : isIdle ? Self.pauseMilliseconds : 0
        return unsafe poll(&event, 1, pause) > 0
    }

    private func text(_ piece: LedgerReader.Piece, _ ledgers: [Ledger]) -> [UInt8] {
        guard let format = format.withLock({ $0 }) else { return [] }
        var bytes: [UInt8] = []
        if piece.lost > 0 { bytes += (format.overwrittenLine(piece.lost, ledgers) + "\n").utf8 }
        for entry in piece.entries {
            bytes += (format.line(entry.record, queue: entry.queue) + "\n").utf8
        }
        return bytes
    }

    /// Writes as much as possible and removes it from `rest`.
    ///
    /// - Returns: why not all could be written; nil: all was.
    private func put(_ rest: inout [UInt8]) -> Errno? {
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe write(fd, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return Errno(rawValue: count < 0 ? errno : ENOSPC) }
            rest.removeFirst(count)
        }
        return nil
    }

    private func tellOf(_ problem: Errno?, _ lines: LinePipe) {
        guard let problem else {
            return lines.write(.info, "ledger file \(path): it is written again")
        }
        lines.write(
            .error,
            "ledger file \(path): \(problem) (\(problem.name)): what happens is kept in memory as long as there is "
                + "room (ledger_size), and tried again each second"
        )
    }
}

/// The ledger file, when `add` was given one.
extension DeviceServer {
    func startLedgerFile() throws(DeviceError) {
        ledgerFile?.tell(ledgerText(isJSON: true))
        try ledgerFile?.start(contexts.map(\.control.ledger), lines)
    }

    /// Writes the rest of the ledger; call when the queues have ended.
    func finishLedgerFile() {
        if let problem = ledgerFile?.finish() { logger.error("ledger file \(problem)") }
    }
}
