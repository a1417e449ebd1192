import Logging

/// The files of what the queues share, apart from the counters of rules, that the next server finds.
struct LiveObjects {
    /// Where the ``Cell``s are; nil: in memory of this process.
    var cells: MappedFile?
    /// What is done to sets of ranges; nil: nobody needs to know.
    var journal: RangeJournal?
    /// They are those of an earlier server.
    var goesOn = false
}

/// What outlives a server that dies, beside its record: the next server of the device goes on with it.
///
/// Only where there can be a next one (`recovery`). It is memory that the queues use anyway, in files, so that it costs
/// an IO nothing and nobody has to write it down in time. Main thread.
extension DeviceServer {
    /// Has all that where the next server finds it, or goes on with what is there.
    func openLive() throws(DeviceError) {
        guard plan.config.recovery != .off else { return }
        try nameMemory()
        let (count, state) = (plan.ruleCount, request.state)
        let bytes = RuleCounters.bytes(count: count)
        let path = state.countersPath(id, bank: plan.bank)
        let counters = found(path, bytes...bytes, identity(of: plan))
        if let counters {
            ruleCounters = RuleCounters(count: count, in: counters)
            ruleCounters.forgetHeld(comeAgain: plan.config.recovery == .reissue)
        } else {
            noteLoss("the rules count from 0, and all are on", path)
            ruleCounters = try makeCounters(plan)
        }
        // Without the clock, which is with the counters, the times of marks mean nothing.
        try openObjects(
            cells: state.cellsPath(id),
            journal: state.journalPath(id),
            goesOn: counters != nil
        )
        guard live.cells == nil else { return }
        logger.warning(
            """
            \(state.path) is on a disk: what the rules have counted, what is switched off, sets of ranges, marks and \
            the state would be lost with this server
            """
        )
    }

    private func openObjects(
        cells: String,
        journal: String,
        goesOn: Bool
    ) throws(DeviceError) {
        let (cellBytes, journalBytes) = (CellTable.fileBytes, RangeJournal.fileBytes)
        if goesOn, let cellFile = found(cells, cellBytes, identity),
            let journalFile = found(journal, journalBytes, identity)
        {
            live = LiveObjects(
                cells: cellFile,
                journal: RangeJournal(journalFile, path: journal),
                goesOn: true
            )
            return
        }
        noteLoss(
            "sets of ranges, counters, marks and the state begin anew",
            "\(cells) and \(journal)"
        )
        live.cells = try make(cells, cellBytes.lowerBound, reach: cellBytes.upperBound)
        let file = try make(journal, journalBytes.lowerBound, reach: journalBytes.upperBound)
        live.journal = file.map { RangeJournal($0, path: journal) }
    }

    /// The scripts are loaded: what they have made of the objects is all there.
    func sealLive() {
        guard !live.goesOn else { return }
        live.cells?.belong(to: identity)
        let owner = identity
        contexts.first?.shared.ranges.edit { $0.journal?.belong(to: owner) }
    }

    func makeShared() -> SharedObjects {
        SharedObjects(
            queues: Int(info.queues),
            reachBytes: reachBytes,
            cells: live.cells,
            journal: live.journal
        )
    }

    /// New counters for a script's rules.
    ///
    /// - Parameter predecessor: the counters of the script that runs now, whose device clock goes on; nil: none.
    func makeCounters(
        _ plan: LoadedScript.Plan,
        after predecessor: RuleCounters? = nil
    ) throws(DeviceError) -> RuleCounters {
        let count = plan.ruleCount
        guard plan.config.recovery != .off else {
            return RuleCounters(count: count, after: predecessor)
        }
        let path = request.state.countersPath(id, bank: plan.bank)
        let file = try make(path, RuleCounters.bytes(count: count))
        let counters = RuleCounters(count: count, in: file, after: predecessor)
        file?.belong(to: identity(of: plan))
        return counters
    }

    // MARK: Files

    /// Has the stores in memory where the next server finds them.
    private func nameMemory() throws(DeviceError) {
        guard request.recovered == nil else { return }
        do throws(KeptStore.Problem) {
            for store in backings.kept {
                try store.name(request.state.memoryPath(id, store.number))
            }
        } catch { throw .unsupported("\(error)") }
    }

    /// The file that a server which died has left; nil: there is none of that owner.
    private func found(_ path: String, _ counts: ClosedRange<Int>, _ owner: UInt64) -> MappedFile? {
        guard request.recovered != nil, let file = try? MappedFile(opening: path, counts: counts),
            file.isOf(owner)
        else { return nil }
        return file
    }

    private func noteLoss(_ loss: String, _ path: String) {
        guard request.recovered != nil else { return }
        logger.warning(
            """
            \(loss): what the last server has left at \(path) is not of this script and of this version of \
            ublk-script, or is not there
            """
        )
    }

    /// A new file; nil: the state directory is on a disk.
    private func make(
        _ path: String,
        _ count: Int,
        reach: Int = 0
    ) throws(DeviceError) -> MappedFile? {
        do throws(MappedFile.Problem) {
            return try MappedFile(
                making: path,
                count: count,
                reach: reach,
                isInMemory: platform.isInMemory
            )
        } catch {
            guard case .system(let call, let errno) = error else { return nil }
            throw .unsupported(
                """
                \(call) \(path): \(errno) (\(errno.name)). A server leaves there what the next one of its device is \
                to go on with: make room in \(request.state.path), or add the device without recovery
                """
            )
        }
    }

    /// Whose the shared objects are: the device's.
    private var identity: UInt64 {
        hash(Array("\(CellTable.layout) \(RangeJournal.layout) \(request.cookie)".utf8))
    }

    /// What two plans have in common whose rules are the same, of this device.
    private func identity(of plan: LoadedScript.Plan) -> UInt64 {
        var text = "\(RuleCounters.layout) \(request.cookie) \(plan.seed) "
        text += plan.arguments.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value) " }.joined()
        text += plan.rules.map { "\($0.line) \($0.name) " }.joined()
        return hash(Array(text.utf8) + plan.source.text)
    }

    /// Not 0, see ``MappedFile/belong(to:)``.
    private func hash(_ bytes: [UInt8]) -> UInt64 {
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
