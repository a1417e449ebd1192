import Glibc

/// Everybody who has connected to a server's control socket.
///
/// The main thread. Nothing here waits: a caller is what was heard of its request and what is unsent
/// of the answer, so that a slow one keeps nobody else from being served.
final class AdminCallers {
    private let socket: AdminSocket
    private let limitSeconds: Double
    private let requestBytesMax: Int
    private var callers: [AdminCaller] = []

    /// More than that wait to be accepted.
    static let countMax = 32

    /// Listens at `path`.
    ///
    /// - Parameter limitSeconds: how long a caller may take for its request, and again for taking the
    ///   answer.
    init(
        path: String,
        limitSeconds: Double = 2,
        requestBytesMax: Int = AdminSocket.requestBytesMax
    ) throws(DeviceError) {
        socket = try AdminSocket(path: path)
        self.limitSeconds = limitSeconds
        self.requestBytesMax = requestBytesMax
    }

    /// What to wait for.
    var events: [pollfd] {
        var events = callers.map { pollfd(fd: $0.fd, events: $0.event, revents: 0) }
        if callers.count < Self.countMax {
            events.append(pollfd(fd: socket.fd, events: Int16(POLLIN), revents: 0))
        }
        return events
    }

    /// When to look at the callers' time again; nil when nobody is connected.
    var millisecondsToLook: Int32? {
        callers.map(\.limit.nextLookNanoseconds).min().map { Int32($0 / 1_000_000) + 1 }
    }

    /// Hears and says whatever can be heard and said now.
    ///
    /// - Returns: those who have said all of their request; each is to be answered.
    func turn(now: UInt64 = SystemCall.monotonicNanoseconds) -> [AdminCaller] {
        while callers.count < Self.countMax, let fd = socket.accept() {
            callers.append(
                AdminCaller(
                    fd: fd,
                    limitSeconds: limitSeconds,
                    requestBytesMax: requestBytesMax,
                    now: now
                )
            )
        }
        let complete = callers.filter { $0.turn(now) }
        callers.removeAll { $0.isOver }
        return complete
    }

    /// Says what is unsent, as far as the callers take it in their time: the server ends.
    func finish() {
        while callers.contains(where: \.isAnswered), let wait = millisecondsToLook {
            var events = callers.map { pollfd(fd: $0.fd, events: $0.event, revents: 0) }
            unsafe poll(&events, nfds_t(events.count), wait)
            let now = SystemCall.monotonicNanoseconds
            for caller in callers { _ = caller.turn(now) }
            callers.removeAll { $0.isOver || !$0.isAnswered }
        }
    }
}

/// One who has connected: says a request, hears an answer.
final class AdminCaller {
    fileprivate let fd: Int32
    private let limitSeconds: Double
    private let requestBytesMax: Int
    fileprivate private(set) var limit: TimeLimit
    private var heard: [UInt8] = []
    private var isTooLong = false
    private var unsent: [UInt8] = []
    fileprivate private(set) var isAnswered = false
    fileprivate private(set) var isOver = false

    /// A piece of a request; one caller may not keep the main thread longer.
    private static let pieceBytes = 64 << 10

    fileprivate init(fd: Int32, limitSeconds: Double, requestBytesMax: Int, now: UInt64) {
        self.fd = fd
        self.requestBytesMax = requestBytesMax
        self.limitSeconds = limitSeconds
        limit = TimeLimit(seconds: limitSeconds, now: now)
    }

    deinit { close(fd) }

    fileprivate var event: Int16 { Int16(isAnswered ? POLLOUT : POLLIN) }

    /// The words of the request.
    var words: [String] {
        heard.split(separator: 0, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    /// Sends the answer, now as far as it goes and the rest in later turns.
    func answer(ok: Bool, _ text: String) {
        isAnswered = true
        unsent = Array(((ok ? "+" : "-") + text).utf8)
        limit = TimeLimit(seconds: limitSeconds)
        say()
    }

    /// - Returns: true when the request is complete, once.
    fileprivate func turn(_ now: UInt64) -> Bool {
        let isLate = limit.isOver(now: now)
        if isAnswered { say() }
        guard !isAnswered else {
            if isLate { isOver = true }
            return false
        }
        switch hear() {
        case .complete: return true
        case .refused(let reason): answer(ok: false, reason)
        case .hungUp: isOver = true
        case .more where isLate:
            answer(ok: false, "the request was not complete within \(limitSeconds) s")
        case .more: break
        }
        return false
    }

    private enum Heard {
        case more, complete, hungUp
        case refused(String)
    }

    private func hear() -> Heard {
        var piece = [UInt8](repeating: 0, count: Self.pieceBytes)
        let got = unsafe piece.withUnsafeMutableBytes {
            unsafe read(fd, $0.baseAddress, $0.count)
        }
        if got < 0 { return errno == EAGAIN || errno == EINTR ? .more : .hungUp }
        if got == 0 {
            guard !isTooLong else {
                return .refused(
                    "the request has more than \(requestBytesMax >> 10) KiB, the most there may be"
                )
            }
            return heard.isEmpty ? .hungUp : .complete
        }
        // The rest is heard all the same: one who is cut short may not get to read why.
        if heard.count + got > requestBytesMax {
            isTooLong = true
            heard = []
        }
        if !isTooLong { heard += piece.prefix(got) }
        return .more
    }

    private func say() {
        while !unsent.isEmpty {
            let sent = unsafe unsent.withUnsafeBytes {
                unsafe send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if sent < 0, errno == EINTR { continue }
            if sent < 0, errno == EAGAIN { return }
            guard sent > 0 else { break }
            unsent.removeFirst(sent)
        }
        isOver = true
    }
}
