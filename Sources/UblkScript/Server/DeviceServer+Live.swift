import Logging

/// What outlives a server that dies, beside its record: the next server of the device goes on with it.
///
/// Only where there can be a next one (`recovery`). It is memory that the queues use anyway, in a file, so that it costs
/// an IO nothing and nobody has to write it down in time. Main thread.
extension DeviceServer {
    /// Has the counters of the rules where the next server finds them, or goes on with those that are there.
    func openLive() throws(DeviceError) {
        guard plan.config.recovery != .off else { return }
        let counters: RuleCounters
        if let found = foundCounters() {
            counters = found
        } else {
            counters = try makeCounters(plan)
        }
        if !counters.isShared {
            logger.warning(
                """
                \(request.state.path) is on a disk: what the rules have counted and which are switched off would be \
                lost with this server
                """
            )
        }
        ruleCounters = counters
    }

    /// The counters that a server which died has left of this script's rules; nil: there are none.
    private func foundCounters() -> RuleCounters? {
        guard request.recovered != nil else { return nil }
        let path = request.state.countersPath(id, bank: plan.bank)
        let bytes = RuleCounters.bytes(count: plan.ruleCount)
        if let file = try? MappedFile(opening: path, counts: bytes...bytes),
            file.isOf(identity(of: plan))
        {
            return RuleCounters(count: plan.ruleCount, in: file)
        }
        logger.warning(
            """
            the rules count from 0, and all are on: what the last server has left at \(path) is not of this script \
            and of this version of ublk-script, or is not there
            """
        )
        return nil
    }

    /// New counters for a script's rules.
    ///
    /// - Parameter predecessor: the counters of the script that runs now, whose device clock goes on; nil: none.
    func makeCounters(
        _ plan: LoadedScript.Plan,
        after predecessor: RuleCounters? = nil
    ) throws(DeviceError) -> RuleCounters {
        guard plan.config.recovery != .off else {
            return RuleCounters(count: plan.ruleCount, after: predecessor)
        }
        let path = request.state.countersPath(id, bank: plan.bank)
        var file: MappedFile?
        do throws(MappedFile.Problem) {
            file = try MappedFile(
                making: path,
                count: RuleCounters.bytes(count: plan.ruleCount),
                isInMemory: platform.isInMemory
            )
        } catch {
            if case .system(let call, let errno) = error {
                throw .unsupported(
                    """
                    \(call) \(path): \(errno) (\(errno.name)). A server leaves there what the next one of its device is \
                    to go on with: make room in \(request.state.path), or add the device without recovery
                    """
                )
            }
        }
        let counters = RuleCounters(count: plan.ruleCount, in: file, after: predecessor)
        file?.belong(to: identity(of: plan))
        return counters
    }

    /// What two plans have in common whose rules are the same, of this device.
    private func identity(of plan: LoadedScript.Plan) -> UInt64 {
        var text = "\(RuleCounters.layout) \(request.cookie) \(plan.seed) "
        text += plan.arguments.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value) " }.joined()
        text += plan.rules.map { "\($0.line) \($0.name) " }.joined()
        let bytes = Array(text.utf8) + plan.source.text
        let hash = unsafe bytes.withUnsafeBytes {
            unsafe DataHash.of($0.baseAddress, length: UInt64($0.count))
        }
        return max(1, hash)
    }

    /// When the queues load the script, on the device's clock, which goes on when a server dies.
    var loadTime: Instant {
        guard request.recovered != nil else { return Instant(nanoseconds: 0) }
        let now = Instant(nanoseconds: clock.now())
        return Instant(nanoseconds: ruleCounters.deviceTime(now))
    }

    func armFaults() {
        isArmed = true
        ruleCounters.startClock(at: Instant(nanoseconds: clock.now()))
        ruleCounters.lookForTriggers(plan.rules)
        for context in contexts { context.control.arm() }
    }
}
