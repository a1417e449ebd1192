import Glibc

/// The connections to a server's control socket, in its poll loop.
///
/// Owned by the server; main thread. Nothing here waits: a connection is what was received of its request and what is
/// unsent of its answer, so that a slow caller does not delay others.
final class AdminCallers {
    private let socket: AdminSocket
    private let limitSeconds: Double
    private let requestBytesMax: Int
    private var callers: [AdminCaller] = []
    /// Until when nobody tries again to accept a connection, after that has failed.
    ///
    /// The socket stays readable all the time, and who polled it would do nothing else.
    private var pause: TimeLimit?

    /// The most connections at a time; more wait to be accepted.
    static let countMax = 32

    /// Listens at `path`.
    ///
    /// - Parameters:
    ///   - limitSeconds: how long a caller may take to send its request, and again to receive the answer.
    ///   - requestBytesMax: the longest request.
    init(
        path: String,
        limitSeconds: Double = 2,
        requestBytesMax: Int = AdminSocket.requestBytesMax
    ) throws(DeviceError) {
        socket = try AdminSocket(path: path)
        self.limitSeconds = limitSeconds
        self.requestBytesMax = requestBytesMax
    }

    /// The events to poll for.
    var events: [pollfd] {
        var events = callers.map { pollfd(fd: $0.fd, events: $0.event, revents: 0) }
        if callers.count < Self.countMax, pause == nil {
            events.append(pollfd(fd: socket.fd, events: Int16(POLLIN), revents: 0))
        }
        return events
    }

    /// How long to poll at most before the time limits have to be checked; nil when nobody is connected or waits for a
    /// file descriptor.
    var millisecondsToLook: Int32? {
        let limits = callers.map(\.limit) + (pause.map { [$0] } ?? [])
        return limits.map(\.nextLookNanoseconds).min().map { Int32($0 / 1_000_000) + 1 }
    }

    /// Accepts, receives and sends what is possible without waiting.
    ///
    /// - Returns: the callers whose request is complete, each once; each must be answered.
    func turn(now: UInt64 = SystemCall.monotonicNanoseconds) -> [AdminCaller] {
        if pause?.isOver(now: now) ?? false { pause = nil }
        if pause == nil { accept(now) }
        let complete = callers.filter { $0.turn(now) }
        callers.removeAll { $0.isOver }
        return complete
    }

    private func accept(_ now: UInt64) {
        do {
            while callers.count < Self.countMax, let fd = try socket.accept() {
                callers.append(
                    AdminCaller(
                        fd: fd,
                        limitSeconds: limitSeconds,
                        requestBytesMax: requestBytesMax,
                        now: now
                    )
                )
            }
        } catch {
            pause = TimeLimit(nanoseconds: TimeLimit.stepNanoseconds, now: now)
        }
    }

    /// Sends the rest of the answers, waiting as long as the callers' time limits allow; called when the server ends.
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

/// A connection: one request, one answer.
final class AdminCaller {
    fileprivate let fd: Int32
    private let limitSeconds: Double
    private let requestBytesMax: Int
    fileprivate private(set) var limit: TimeLimit
    private var received: [UInt8] = []
    private var isTooLong = false
    /// The request is there, and whoever took it will answer.
    private var isComplete = false
    private var unsent: [UInt8] = []
    fileprivate private(set) var isAnswered = false
    fileprivate private(set) var isOver = false

    /// The most bytes received from one caller in a turn, so that it does not keep the main thread.
    private static let chunkBytes = 64 << 10

    fileprivate init(fd: Int32, limitSeconds: Double, requestBytesMax: Int, now: UInt64) {
        self.fd = fd
        self.requestBytesMax = requestBytesMax
        self.limitSeconds = limitSeconds
        limit = TimeLimit(seconds: limitSeconds, now: now)
    }

    deinit { close(fd) }

    fileprivate var event: Int16 { isAnswered ? Int16(POLLOUT) : isComplete ? 0 : Int16(POLLIN) }

    /// The words of the request.
    var words: [String] {
        received.split(separator: 0, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    /// Sends the answer as far as possible without waiting, and the rest in later turns.
    func answer(ok: Bool, _ text: String) {
        isAnswered = true
        unsent = Array(((ok ? "+" : "-") + text).utf8)
        limit = TimeLimit(seconds: limitSeconds)
        sendUnsent()
    }

    /// Receives or sends what is possible without waiting.
    ///
    /// - Returns: true, once, when the request is complete.
    fileprivate func turn(_ now: UInt64) -> Bool {
        let isLate = limit.isOver(now: now)
        if isAnswered { sendUnsent() }
        guard !isAnswered else {
            if isLate { isOver = true }
            return false
        }
        guard !isComplete else { return false }
        switch receive() {
        case .complete:
            isComplete = true
            return true
        case .refused(let reason): answer(ok: false, reason)
        case .hungUp: isOver = true
        case .more where isLate:
            answer(ok: false, "the request was not complete within \(limitSeconds) s")
        case .more: break
        }
        return false
    }

    private enum Received {
        case more, complete, hungUp
        case refused(String)
    }

    private func receive() -> Received {
        var chunk = [UInt8](repeating: 0, count: Self.chunkBytes)
        let got = unsafe chunk.withUnsafeMutableBytes {
            unsafe read(fd, $0.baseAddress, $0.count)
        }
        if got < 0 { return errno == EAGAIN || errno == EINTR ? .more : .hungUp }
        if got == 0 {
            guard !isTooLong else {
                return .refused(
                    "the request has more than \(requestBytesMax >> 10) KiB, the most there may be"
                )
            }
            return received.isEmpty ? .hungUp : .complete
        }
        // Receive the rest all the same: a caller that cannot send it might not read the refusal.
        if received.count + got > requestBytesMax {
            isTooLong = true
            received = []
        }
        if !isTooLong { received += chunk.prefix(got) }
        return .more
    }

    private func sendUnsent() {
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
