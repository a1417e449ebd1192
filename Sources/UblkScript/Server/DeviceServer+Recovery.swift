import Logging
import Synchronization

/// What a server does otherwise when it serves a device again whose server died: the record has what `add` was asked
/// for, and files are there already.
///
/// Main thread.
extension DeviceServer {
    /// How long the files of a dead server may still be locked after the driver has noticed its death: until its rings
    /// are gone, which have them open.
    private static let filesSeconds = 10.0

    /// Loads the script; checks everything that needs no device.
    static func plan(_ request: Request) throws(ScriptProblem) -> LoadedScript.Plan {
        guard let record = request.recovered else {
            return try LoadedScript.plan(request.source, overrides: request.overrides)
        }
        var plan = try LoadedScript.plan(
            request.source,
            overrides: request.overrides,
            usualSeed: record.seed
        )
        let second = request.state.scriptPath(DeviceID(record.id), bank: 1)
        plan.bank = record.loadedScript == second ? 1 : 0
        // After a reload, the device{} of a shipped script was only a default, as for DeviceServer.check().
        if plan.source.isShipped, let driver = record.driver {
            plan.config.fit(to: driver, record)
        }
        return plan
    }

    /// Makes the stores; those of a device whose server died are all there, and it is waited until it has let go of
    /// them.
    static func stores(
        _ config: DeviceConfig,
        _ request: Request,
        _ platform: ServerPlatform
    ) throws -> DeviceStores<FileStore> {
        let keep = keeper(config, request, platform)
        guard request.recovered != nil else {
            return try DeviceStores(config, keep: keep, newFiles: request.newFiles)
        }
        let clock = platform.clock
        var limit = TimeLimit(seconds: filesSeconds, now: clock.now())
        while true {
            do { return try DeviceStores(config, keep: keep, newFiles: nil) } catch {
                guard case FileStore.Problem.inUse = error, !limit.isOver(now: clock.now()) else {
                    throw error
                }
            }
            clock.pause(20)
        }
    }

    /// How stores in memory outlive the server; nil: there can be no next one.
    private static func keeper(
        _ config: DeviceConfig,
        _ request: Request,
        _ platform: ServerPlatform
    ) -> DeviceStores<FileStore>.Keep? {
        guard config.recovery != .off else { return nil }
        let (state, isLocked) = (request.state, config.locksMemory)
        if let id = request.recovered.map({ DeviceID($0.id) }) {
            return { number, sizeBytes in
                try KeptStore(
                    opening: state.memoryPath(id, number),
                    number: number,
                    sizeBytes: sizeBytes,
                    isLocked: isLocked
                )
            }
        }
        var needsBytes: UInt64 = 0
        return { number, sizeBytes in
            try state.create()
            needsBytes += sizeBytes
            return try KeptStore(
                in: state.path,
                number: number,
                sizeBytes: sizeBytes,
                needsBytes: needsBytes,
                isLocked: isLocked,
                isInMemory: platform.isInMemory
            )
        }
    }

    /// Has another server started when this one dies, when that was asked for.
    func startGuard() throws(DeviceError) {
        guard let deaths = request.deaths else { return }
        try outside.guardServer(of: id, deaths: deaths)
    }

    // MARK: Handing over

    /// Ends the server's part of a device without an IO error, and leaves it waiting for the next server.
    ///
    /// With `recovery = "reissue"` the next one gets what this one has not answered. Else this one answers it first,
    /// and lets go of what is held or delayed.
    ///
    /// - Parameter patienceSeconds: how long to wait while no IO ends; then the rest fails.
    /// - Throws: the device runs on as it was.
    func quiesce(patienceSeconds: Int) throws(DeviceError) {
        guard plan.config.recovery != .off else {
            throw .unsupported(
                "device \(id) was added without recovery, so it would end with its server: nothing was done"
            )
        }
        if let feature = Features.quiesce.subtracting(info.features).known.first {
            throw .lacking(feature, for: "quiesce of device \(id)")
        }
        try lifecycle.quiesce(self)
        handOver(patienceSeconds: patienceSeconds)
    }

    /// Somebody else's QUIESCE_DEV has been carried out.
    ///
    /// It tells the server by taking back the tags that the driver has at that moment. Those of the IOs that the server
    /// has stay with it, also when it has answered: whoever waits for them to come back waits for ever. When there is
    /// no tag that could be taken back, nothing tells.
    var wasQuiesced: Bool {
        guard contexts.contains(where: { $0.control.hasLostTag.load(ordering: .relaxed) }),
            plan.config.recovery != .off, info.features.contains(.quiesce)
        else { return false }
        // A STOP takes all tags back, one after the other; before that the device is dead. The query waits for nobody.
        return (try? lifecycle.driver.info(of: id))?.state == .live
    }

    /// The rest of ``quiesce(patienceSeconds:)``, after the driver's part.
    func handOver(patienceSeconds: Int) {
        if plan.config.recovery != .reissue { finishIOs(patienceSeconds: patienceSeconds) }
        lifecycle.handOver(self)
        logger.info("device \(id) was quiesced: it waits for another server")
    }

    private var inFlight: UInt64 { contexts.reduce(0) { $0 + Self.inServer($1.control) } }

    private func finishIOs(patienceSeconds: Int) {
        drain("it is being quiesced")
        // What the driver had given out before is counted by then.
        waitForTurns()
        var last = inFlight
        var limit = TimeLimit(seconds: Double(patienceSeconds), now: clock.now())
        while last > 0, !limit.isOver(now: clock.now()) {
            clock.pause(2)
            let now = inFlight
            if now != last {
                limit = TimeLimit(seconds: Double(patienceSeconds), now: clock.now())
            }
            last = now
        }
        if last > 0 { logger.warning("\(last) IOs fail that did not end within their time") }
        // The last answers are sent by then.
        waitForTurns()
    }

    /// Waits until each queue has taken all that had come, and has sent all that it had to say.
    ///
    /// One that has nothing left with the driver has ended, and does not answer.
    private func waitForTurns() {
        for _ in 0..<2 { _ = queues.ask { .ask(.held, $0) }.wait(seconds: 0.3) }
    }
}

extension DeviceConfig {
    /// Takes over what the driver was told of the device that runs, and its file.
    fileprivate mutating func fit(to driver: DeviceRecord.Driver, _ record: DeviceRecord) {
        let params = driver.params
        sizeBytes = params.sizeBytes
        depth = driver.depth
        maxIOBytes = driver.maxIOBytes
        logicalBlockBytes = params.logicalBlockBytes
        physicalBlockBytes = params.physicalBlockBytes
        ioMinBytes = params.ioMinBytes
        ioOptBytes = params.ioOptBytes
        chunkBytes = params.chunkBytes
        isReadOnly = params.readOnly
        isRotational = params.rotational
        hasVolatileCache = params.volatileCache
        hasFUA = params.fua
        discard = params.discard
        writeZeroes = params.writeZeroes
        recovery = Recovery(Features(rawValue: driver.features))
        guard ownBacking == 0, let file = record.file else { return }
        self.file = file
        isShared = record.isShared == true
        backing = .file
    }
}

extension DeviceServer.Request {
    /// The request for a device that is recovered, with the size that the driver says it has.
    ///
    /// The record has another one when its server died after UPDATE_SIZE and before it wrote that down, or could not
    /// write it.
    func sized(_ platform: ServerPlatform) -> Self {
        guard var record = recovered, record.driver != nil else { return self }
        let device = RecoveredDevice(
            record: record,
            access: platform.access,
            clock: platform.clock,
            mark: nil
        )
        guard let bytes = device.sizeBytes(), bytes != record.sizeBytes else { return self }
        var request = self
        record.sizeBytes = bytes
        record.driver?.params.sizeBytes = bytes
        request.recovered = record
        request.setSize(bytes)
        return request
    }

    /// Has the device the size, whatever its script and its settings say.
    mutating func setSize(_ bytes: UInt64) {
        overrides.removeAll { $0.key == "size" }
        overrides.append(
            Setting(key: "size", value: .string("\(bytes)"), origin: "size=\(bytes)")
        )
        settings = overrides.map(\.asTyped)
    }
}
