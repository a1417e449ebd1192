/// Steps of a trace as lines of text, and what each kind of step means.
///
///     0.000512345  q0 tag 3    +5.01 ms  COMMIT_AND_FETCH_REQ  io 17: result -61, ENODATA
struct TraceText {
    /// The first step of each kind is followed by what it means.
    private let explains: Bool
    private var explained: Set<TraceStep.Kind> = []

    init(explains: Bool = false) { self.explains = explains }

    /// The lines for a step.
    mutating func lines(_ step: TraceStep) -> [String] {
        var lines = [line(step)]
        if explains, explained.insert(step.step).inserted {
            lines += Wrap.text(step.step.explanation, columns: 74).split(separator: "\n").map {
                "    | " + $0
            }
        }
        return lines
    }

    private func line(_ step: TraceStep) -> String {
        let time = step.ago ?? step.t
        let digits = String(time % 1_000_000_000)
        let fraction = String(repeating: "0", count: 9 - digits.count) + digits
        let place = [step.queue.map { "q\($0)" }, step.tag.map { "tag \($0)" }].compactMap { $0 }
        let since = step.sinceArrival.map { "+" + Rounded.time($0) } ?? ""
        let text =
            "\(step.ago == nil ? "" : "-")\(time / 1_000_000_000).\(fraction)  "
            + padded(place.joined(separator: " "), 11) + padded(since, 9, isRight: true) + "  "
        let name = step.step.rawValue
        let details = details(step)
        return text + (details.isEmpty ? name : padded(name, 21) + details)
    }

    private func padded(_ text: String, _ width: Int, isRight: Bool = false) -> String {
        let blanks = String(repeating: " ", count: max(0, width - text.count))
        return isRight ? blanks + text : text + blanks
    }

    private func details(_ step: TraceStep) -> String {
        let io = step.io.map { "io \($0)" } ?? ""
        switch step.step {
        case .fetch: return "\(step.tags ?? 0) tags"
        case .abort: return (step.tags ?? 1) == 1 ? "" : "\(step.tags ?? 1) tags"
        case .lost:
            return "\(step.count ?? 0) \(step.what ?? "steps"), overwritten before they were read"
        case .gap: return "nobody read for a while, so nothing was noted"
        case .request, .found:
            let why = step.step == .found ? step.what.map { ": " + $0 } ?? "" : ""
            return "\(io): \(descriptor(step))\(why)"
        case .decision, .healed, .released, .drained, .unsupported, .scriptError, .backingError,
            .copyError:
            return "\(io): " + (step.who.map { $0 + ": " } ?? "") + (step.what ?? "")
        case .delayed: return "\(io): for \(Rounded.time(step.nanoseconds ?? 0))"
        case .held:
            let time = step.nanoseconds ?? 0
            return "\(io): " + (time == 0 ? "until it is released" : "for \(Rounded.time(time))")
        case .paused, .waiting, .continues: return io
        case .storeBegin:
            return
                "\(io): \(step.op ?? "") \(step.offset ?? 0)+\(step.length ?? 0) of store \(step.store ?? 0)"
                + (step.what.map { ", " + $0 } ?? "")
        case .storeEnd, .copyIn, .copyOut, .commit: return "\(io): \(result(step))"
        default: return command(step)
        }
    }

    /// A command for /dev/ublk-control: `result 0 in 2.1 ms: 1 queue, depth 128`.
    private func command(_ step: TraceStep) -> String {
        let name = step.errno.map { ", \($0)," } ?? ""
        let end = step.result.map { "result \($0)\(name)" } ?? "no answer"
        let time = Rounded.time(step.nanoseconds ?? 0)
        return "\(end) in \(time)" + (step.what.map { ": " + $0 } ?? "")
    }

    /// The io descriptor of a request: `read, sector 16384, 4096 bytes, meta`.
    private func descriptor(_ step: TraceStep) -> String {
        let op = step.op ?? ""
        let flags = (step.flags ?? []).map { ", " + $0 }.joined()
        guard op != IOOp.flush.name else { return op + flags }
        return "\(op), sector \(step.sector ?? 0), \(step.length ?? 0) bytes\(flags)"
    }

    private func result(_ step: TraceStep) -> String {
        let result = step.result ?? 0
        let name = step.errno.map { ", " + $0 } ?? ""
        return step.step == .commit
            ? "result \(result)\(name)" : result < 0 ? "failed\(name)" : "\(result) bytes"
    }
}

extension TraceStep.Kind {
    /// What the step means in the protocol, for somebody who learns it.
    var explanation: String {
        switch self {
        case .fetch:
            """
            FETCH_REQ is an io_uring command that the server gives once for each tag, with the address of the tag's \
            buffer. A tag is a place for one request. The command does not complete until there is a request; START_DEV \
            waits until every tag has one.
            """
        case .found:
            "The server has this request already: the driver gave it before the trace began."
        case .request:
            """
            The command that waited for this tag has completed with result 0: there is a request. The server reads it from \
            the tag's io descriptor, in memory that the driver shares: op_flags (the operation in the low 8 bits, flags \
            above), nr_sectors, start_sector, addr. A sector is 512 bytes. In copy mode the driver has copied the data of a \
            write into the tag's buffer by now.
            """
        case .decision:
            """
            What is to become of the request: the rules of the script are asked in their order, then its handler for the \
            operation. The driver knows nothing of it. "pass" is an IO that nobody minds.
            """
        case .paused:
            "ctl pause: the request waits undecided, and the driver with it. It has no time limit of its own."
        case .delayed:
            "The server answers later. The driver waits for the answer, the queue serves other tags meanwhile."
        case .held:
            "A hang: the server keeps the request without an answer. STOP_DEV would wait for it in the kernel."
        case .waiting:
            "The script's handler has asked for data of a store, and decides when it is there."
        case .continues:
            "The wait is over: a time has passed, or somebody has released the request."
        case .storeBegin:
            """
            The data moves between the tag's buffer and the place where the bytes live, store 0 or a backing of the script. \
            A file is read and written through the same io_uring as the commands of the driver.
            """
        case .storeEnd:
            "The store is done; of a file this is another completion of the io_uring."
        case .commit:
            """
            COMMIT_AND_FETCH_REQ is one command that does two things. It commits the result, a number of bytes or a \
            negative errno, and with it the request ends; in copy mode the driver copies the tag's buffer to whoever reads. \
            And it fetches the tag's next request, as FETCH_REQ did: the tag is the driver's again.
            """
        case .copyIn:
            """
            With user copy the server has the data of a write copied when it needs it: a read of /dev/ublkcN, at an offset \
            that names queue and tag.
            """
        case .copyOut:
            """
            With user copy the server hands over the data of a read itself, before it commits: a write to /dev/ublkcN, at an \
            offset that names queue and tag.
            """
        case .abort:
            """
            ABORT: the driver completes the command that waits for the tag with -ENODEV, as the device is being stopped. The \
            tag must not be fetched again; when all are back the queue ends.
            """
        case .lost:
            "The queue does not wait for who reads: its ring was written over before it was read."
        case .gap:
            "A trace that nobody reads is switched off after some seconds. It goes on from here."
        case .healed:
            "A write took its bytes out of the range of a rule with heal."
        case .released:
            "ctl release, or release() in the script, has let the held request go."
        case .drained:
            "The device is being taken away, so what is delayed or held has to end: STOP_DEV waits for it."
        case .unsupported:
            "The io descriptor has an operation that this server does not know."
        case .scriptError:
            "The script's handler raised, and on_error says what the request gets."
        case .copyError:
            "The data could not be copied from or to the driver, which nobody has decided."
        case .backingError:
            "The store failed, which nobody has decided."
        default: commandExplanation ?? ""
        }
    }
}
