import CLua
import SystemPackage

/// What a queue can be asked, between two IOs, and answers.
///
/// Values: the words that somebody said are read before (`Admin/AdminRequest.swift`), and the text of the
/// answer is made after.
enum QueueRequest: Equatable, Sendable {
    /// Let go of held IOs.
    case release(Release)
    /// Tell of the IOs that are held, in the order of their arrival.
    case held
    /// Hold every IO that arrives, before anything is decided about it; or let them go on.
    case pause(Bool)
    case live(LiveRequest)
    /// The script's own `ctl`, whose answer may be wanted as JSON.
    case script([String], asJSON: Bool)

    /// The answer of no queue at all, to which those of all queues are added; nil: the first queue answers for all.
    var sum: ControlReport? {
        switch self {
        case .release: .released(0)
        case .held: .held([])
        case .pause: .nothing
        case .live, .script: nil
        }
    }
}

/// What a queue said to a request.
typealias QueueAnswer = Result<ControlReport, QueueRefusal>

/// Why a queue did not do what it was asked; as text: `Admin/AdminAnswer.swift`.
enum QueueRefusal: Error, Equatable, Sendable {
    case noRule(String, known: [String])
    case noSet(String, known: [String])
    /// A set was named, but nothing to do with it.
    case noSetOperation
    case noMemoryToClear
    case noMemoryForRanges
    case noMemoryForName(String)
    /// The script has no `ctl`.
    case noFunction
    /// The script's `ctl` raised this.
    case raised(String)
}

/// Carrying out the messages of other threads, between two IOs.
extension Queue where Transport: ~Copyable {
    mutating func readMessages() {
        for message in control.takeMessages() {
            switch message {
            case .ask(let request, let promise): promise.fulfil(answer(request))
            case .prepare(let reload, let promise): promise.fulfil(prepare(reload))
            case .adopt(let promise): promise.fulfil(adopt())
            case .discard: discardPrepared()
            case .trace(let ring):
                if let ring { beginTrace(ring) } else { trace(into: nil) }
            case .resize(let size, let promise):
                resize(size)
                promise.fulfil(true)
            case .drain: drain()
            case .quit: quit()
            }
        }
    }

    private mutating func answer(_ request: QueueRequest) -> QueueAnswer {
        let now = rules.deviceTime(transport.now)
        do throws(QueueRefusal) {
            switch request {
            case .release(let release): return .success(.released(letGo(release)))
            case .held: return .success(.held(heldIOs()))
            case .pause(let pauses):
                pause(pauses)
                return .success(.nothing)
            case .live(let request): return .success(try live.answer(request, now: now))
            case .script(let words, let asJSON):
                return .success(.script(try ctl(words, asJSON, now)))
            }
        } catch { return .failure(error) }
    }

    private func ctl(
        _ words: [String],
        _ asJSON: Bool,
        _ now: Instant
    ) throws(QueueRefusal) -> String {
        guard script.hasCtl else { throw .noFunction }
        do throws(ScriptError) { return try script.ctl(words, asJSON: asJSON, now: now) } catch {
            throw .raised(error.text)
        }
    }

    /// Tells the store, the rules and the script where the device ends now.
    private mutating func resize(_ size: DeviceSize) {
        configuration.sizeBytes = size.deviceBytes
        rules.deviceBytes = size.deviceBytes
        if let bytes = size.storeBytes { stores[0].grow(to: bytes) }
        tellSizes(script)
    }

    /// Holds requests that arrive from now on, undecided; or continues with those that are held so.
    mutating func pause(_ pauses: Bool) {
        rules.counters.isPaused = pauses
        isPaused = pauses && !isDraining
        if !isPaused { goOnWithPaused() }
    }

    private mutating func goOnWithPaused() {
        for index in 0..<configuration.depth {
            let tag = Tag(UInt16(index))
            guard requests[tag].state == .paused else { continue }
            letGo(tag)
            decide(tag)
        }
    }

    /// The device is being taken away: delayed IOs end now as scripted, hung ones with EIO unless
    /// the script gave them another outcome, and the script is asked no more.
    ///
    /// STOP_DEV waits in the kernel for every IO that is not committed.
    private mutating func drain() {
        beginDraining()
        goOnWithPaused()
        for index in 0..<configuration.depth {
            let tag = Tag(UInt16(index))
            switch requests[tag].state {
            case .delayed:
                letGo(tag)
                if requests[tag].decision.hangs != 0 { loseIfPassing(tag) }
            case .held:
                letGo(tag)
                loseIfPassing(tag)
            default: continue
            }
            record(.drained, tag)
            advance(tag)
        }
    }

    /// A hang imitates a request whose answer never comes; when its device goes away it is an IO
    /// error.
    private func loseIfPassing(_ tag: Tag) {
        guard requests[tag].decision.outcome == UInt8(US_OUTCOME_PASS.rawValue) else { return }
        requests[tag].endsWith = Errno.ioError.rawValue
        let note = ": the device was taken away while it held the IO"
        unasked(.drained, tag, errno: Errno.ioError.rawValue, note)
    }
}
