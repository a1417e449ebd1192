import CLua
import SystemPackage

/// What other threads ask of a queue, between two IOs.
extension Queue where Transport: ~Copyable {
    mutating func readMessages() {
        for message in control.takeMessages() {
            switch message {
            case .release(let release, let promise): promise.fulfil(letGo(release))
            case .held(let promise): promise.fulfil(heldIOs())
            case .control(let words, let promise, let asJSON):
                promise.fulfil(answer(words, asJSON))
            case .pause(let pauses): pause(pauses)
            case .prepare(let reload, let promise): promise.fulfil(prepare(reload))
            case .adopt(let promise): promise.fulfil(adopt())
            case .discard: discardPrepared()
            case .drain: drain()
            case .quit: quit()
            }
        }
    }

    private mutating func answer(_ words: [String], _ asJSON: Bool) -> ControlAnswer {
        let now = rules.deviceTime(transport.now)
        do throws(LiveControl.Refusal) {
            if let report = try live.answer(words, now: now) { return ControlAnswer(report) }
        } catch { return ControlAnswer(isOK: false, text: error.text) }
        guard script.hasCtl else {
            let builtIn = ["release", "held", "stats", "pause", "resume"] + LiveControl.words
            return ControlAnswer(
                isOK: false,
                text: "the script has no ctl function, and the built-in words are: "
                    + builtIn.joined(separator: " ")
            )
        }
        do throws(ScriptError) {
            return ControlAnswer(.script(try script.ctl(words, asJSON: asJSON, now: now)))
        } catch { return ControlAnswer(isOK: false, text: error.text) }
    }

    /// Holds what arrives from now on, undecided; or decides about all that was.
    private mutating func pause(_ pauses: Bool) {
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
