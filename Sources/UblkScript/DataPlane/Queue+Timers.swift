import CLua

/// Running the functions of `after()` and `every()`, between two IOs.
extension Queue where Transport: ~Copyable {
    /// The earliest deadline of a delay, a hang, or a timer of the script.
    @inline(__always)
    var nextDeadline: Instant? {
        guard let due = script.nextTimer, isArmed else { return timers.nextDeadline }
        let timer = rules.counters.instant(at: due)
        guard let deadline = timers.nextDeadline else { return timer }
        return min(deadline, timer)
    }

    /// Runs the functions of `after()` and `every()` that are due.
    @inline(never)
    mutating func runTimers() {
        let now = rules.deviceTime(transport.now)
        while isArmed, let due = script.nextTimer, due <= now.nanoseconds {
            do throws(ScriptError) { try script.runTimer(now: now) } catch {
                control.counters.add(.scriptErrors)
                report.scriptFailed(error, IOSummary.timer)
                if configuration.onError == .stop { report.wantsStop() }
            }
        }
    }
}
