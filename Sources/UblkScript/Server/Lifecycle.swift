import Glibc
import SystemPackage

/// The lifecycle of one device: steps that are taken in order and undone in reverse.
///
///     bringUp: every ``Step``; one that fails undoes those before it
///     stop:    STOP_DEV while the queues still serve ─► the queues end ─► /dev/ublkcN is closed
///     delete:  the names in the state directory go ─► UNREG_BUF, if there is memory to share ─► DEL_DEV
///     handOver: the queues end ─► /dev/ublkcN is closed, after QUIESCE_DEV
///     leave:   the rest of the same, after another program's STOP_DEV or DEL_DEV
///
/// A device whose server died is recovered by the same steps in another order (``Step/recovering``): it exists, with
/// its parameters and its disk, and one that does not come up stays as it was.
///
/// ``done`` alone says what there is to undo. A step that fails leaves nothing behind. Steps that involve the driver
/// are done here, all others by the ``LifecycleHost``. Main thread.
final class Lifecycle {
    /// The steps in order; each says what is true once it is taken and, if need be, how it is undone.
    enum Step: Int, CaseIterable, Comparable, Sendable {
        /// ADD_DEV gave a number; undone by DEL_DEV. Recovering: the driver has noticed that the server is dead.
        case device
        /// The driver granted what it was asked for; a user without root was given `/dev/ublkcN`.
        case grant
        /// The device owns the file names of its number in the state directory; undone by removing all these files,
        /// which the steps log, record and socket make.
        case names
        /// The log is open.
        case log
        /// SET_PARAMS accepted the parameters, and REG_BUF the memory that programs share. Recovering: the device has
        /// the parameters.
        case parameters
        /// The record is written.
        case record
        /// The control socket listens.
        case socket
        /// `/dev/ublkcN` is open, recovering after START_USER_RECOVERY; undone by closing it.
        case character
        /// What the next server of the device is to go on with, should this one die, is where that one finds it.
        case live
        /// Each queue has a thread that has fetched all tags; undone by ending the threads.
        case queues
        /// START_DEV made `/dev/ublkbN`, and its partitions are known. STOP_DEV removes the disk, and so does the
        /// DEL_DEV of a device that did not come up. Recovering: END_USER_RECOVERY gave it to the queues.
        case disk
        /// Faults are armed: rules and handlers decide.
        case faults
        /// The nodes of the disk and of the character device are the driver's.
        case nodes

        static func < (a: Step, b: Step) -> Bool { a.rawValue < b.rawValue }

        /// The order for a device whose server died.
        ///
        /// Only one process at a time has `/dev/ublkcN`, so what would take something from another one comes after it.
        /// Nothing scans partitions, so faults are armed before the first IO can arrive. The record is replaced last,
        /// so that until then, whatever happens, it is the one that recovering again needs.
        static let recovering: [Step] = [
            .device, .grant, .names, .log, .parameters, .character, .socket, .live, .faults,
            .queues, .disk, .nodes, .record,
        ]
    }

    /// The steps that have been taken and not undone.
    private(set) var done: [Step] = []
    private(set) var id = DeviceID(0)
    private(set) var info = DeviceInfo(id: nil, queues: 0, depth: 0, maxIOBytes: 0, features: [])
    /// The memory that the driver knows as shared; nil: there is none.
    private(set) var sharedBuffer: SharedBuffer?
    let driver: DriverQueries
    /// Gives the commands that may wait in the kernel, in a separate process.
    let outside: OutsideControl
    /// All that was given for the device since this server began.
    let commands: CommandLog
    private let platform: ServerPlatform
    private let newDevice: NewDevice
    /// The device to serve again; nil: a new one is made.
    private let recovered: RecoveredDevice?
    private let state: StateDirectory
    private var asked = DeviceInfo(id: nil, queues: 0, depth: 0, maxIOBytes: 0, features: [])
    private var characterFD: Int32 = -1
    private var recordBytes: [UInt8] = []

    /// - Parameter record: of the device to serve again; nil: a new one is made.
    init(
        _ platform: ServerPlatform,
        state: StateDirectory,
        recovering record: DeviceRecord? = nil
    ) throws(DeviceError) {
        let commands = CommandLog(clock: platform.clock)
        var platform = platform
        platform.access = NotedAccess(access: platform.access, log: commands)
        self.commands = commands
        self.platform = platform
        let (access, clock) = (platform.access, platform.clock)
        let release = platform.kernelRelease
        recovered = record.map {
            RecoveredDevice(
                record: $0,
                access: access,
                clock: clock,
                mark: RecoveryMark($0, state, release: release)
            )
        }
        self.state = state
        newDevice = NewDevice(access: platform.access, clock: platform.clock)
        driver = DriverQueries(try platform.access.control())
        outside = try OutsideControl(platform.companion, notes: commands)
    }

    // MARK: Bringing up

    /// Takes all steps; on any failure nothing of a new device is left, and one that was there is as it was.
    func bringUp(_ host: any LifecycleHost) throws {
        do {
            for step in recovered == nil ? Step.allCases : Step.recovering {
                try take(step, host)
                done.append(step)
            }
        } catch {
            undo(downTo: .character, host)
            host.discardNewFiles()
            if recovered == nil { undo(downTo: .device, host) } else { forgetIfDeleted() }
            done = []
            throw error
        }
    }

    private func take(_ step: Step, _ host: any LifecycleHost) throws {
        switch step {
        case .device:
            guard let recovered else { return try add(host) }
            try find(recovered, host)
        case .grant:
            if isOfUser { try newDevice.waitForOwnNode(of: id) }
            try checkGrant()
        case .names:
            try state.create()
            if recovered == nil { state.removeMark(of: id) }
        case .log: try host.openLog(of: id)
        case .parameters:
            if let recovered { return try recovered.check(host.params) }
            try newDevice.setParams(host.params, of: id)
            sharedBuffer = try host.sharedMemory.map { memory throws(DeviceError) in
                SharedBuffer(memory: memory, number: try newDevice.register(memory, with: id))
            }
        case .record: try keep(host.makeRecord())
        case .socket: try host.listen(at: state.socketPath(id))
        case .character:
            try recovered?.begin()
            characterFD = try newDevice.open(id)
        case .live: try host.openLive()
        case .queues: try host.startQueues(characterFD)
        case .disk:
            guard let recovered else { return try start(host) }
            try outside.endRecovery(id, progress: { host.servedIOs })
            recovered.mark?.remove()
        case .faults: host.armFaults()
        case .nodes:
            try newDevice.waitForNodes(of: id, own: isOfUser)
            info = try driver.info(of: id)
        }
    }

    /// Removes what a recovery that failed has put among the files of a device which was deleted meanwhile.
    private func forgetIfDeleted() {
        // A `del` removes the record first. The number is free once `/dev/ublkcN` is closed.
        guard done.contains(.names), state.readRecord(id) == nil,
            driver.waitUntilGone(id, clock: platform.clock)
        else { return }
        state.remove(id)
    }

    private func add(_ host: any LifecycleHost) throws(DeviceError) {
        let offered = try driver.features()
        guard offered.contains(.ioctlEncode) else {
            throw .unsupported(
                "this kernel's ublk driver is too old (no ioctl-encoded commands): 6.12 or later is needed"
            )
        }
        asked = try host.wanted(of: offered)
        info = try newDevice.add(asked)
        guard let granted = info.id else { throw .unsupported("ADD_DEV gave no device number") }
        id = granted
    }

    private func find(
        _ recovered: RecoveredDevice,
        _ host: any LifecycleHost
    ) throws(DeviceError) {
        info = try recovered.find()
        id = recovered.id
        // What the device has is all that it can be asked for.
        asked = try host.wanted(of: info.features)
    }

    /// The device is that of a user without root.
    private var isOfUser: Bool { info.features.contains(.unprivilegedDevice) }

    private func checkGrant() throws(DeviceError) {
        guard info.features.isSuperset(of: asked.features), info.depth == asked.depth,
            info.maxIOBytes == asked.maxIOBytes, info.descriptorBytes == asked.descriptorBytes
        else {
            throw .unsupported(
                recovered == nil
                    ? "device \(id): the driver granted other features or limits than it was asked for (ADD_DEV)"
                    : "device \(id): its script, loaded again, declares another depth, max_io or io_desc_size than the device has"
            )
        }
    }

    /// Gives START_DEV and has the partitions scanned.
    ///
    /// The scan's reads must be over before faults are armed: rules could make them hang, and they would count.
    private func start(_ host: any LifecycleHost) throws(DeviceError) {
        // Nobody scans a user's disk: the kernel does not by itself, and BLKRRPART is for root.
        let driverScans = !info.features.contains(.noAutoPartitionScan) && !isOfUser
        let scans = !driverScans && host.scansPartitions && !isOfUser
        let remark = try outside.start(id, scans: scans, progress: { host.servedIOs })
        if !remark.isEmpty { host.note(remark) }
        guard driverScans else { return }
        DriverScan.waitForEnd(
            of: id,
            platform.access,
            platform.clock,
            served: { host.servedIOs }
        )
    }

    // MARK: The record

    /// Writes the record and the script it is about, or replaces them; on failure the record is as it was.
    func keep(_ record: StoredRecord) throws(DeviceError) {
        try state.writeScript(record.script, of: id, bank: record.bank)
        try state.writeRecord(record.json, of: id)
        state.removeScript(of: id, otherThan: record.bank)
        recordBytes = record.json
    }

    // MARK: While it is up

    /// Changes the size of the disk.
    ///
    /// - Throws: the disk has its former size; but after a ``DeviceError/timeout(_:_:seconds:)`` the command is still
    ///   under way.
    func updateSize(
        to sizeBytes: UInt64,
        _ host: any LifecycleHost
    ) throws(DeviceError) {
        try outside.updateSize(of: id, to: sizeBytes, progress: { host.servedIOs })
    }

    // MARK: Taking down

    /// Removes the disk, ends the queues and closes `/dev/ublkcN`.
    ///
    /// - Throws: when `servedIOs` does not change for `patienceSeconds`. Then nothing is undone, as the STOP is still
    ///   under way.
    func stop(patienceSeconds: Int, _ host: any LifecycleHost) throws(DeviceError) {
        try outside.stop(
            id,
            syncs: info.features.contains(.userRecovery),
            seconds: patienceSeconds,
            progress: { host.servedIOs }
        )
        undo(downTo: .character, host)
        state.removeMemory(of: id)
    }

    /// As ``stop(patienceSeconds:_:)``, but only when nobody has the disk open.
    ///
    /// - Throws: EBUSY when somebody has. Nothing is undone on any error.
    func stopIfUnused(patienceSeconds: Int, _ host: any LifecycleHost) throws(DeviceError) {
        try outside.stopIfUnused(id, seconds: patienceSeconds, progress: { host.servedIOs })
        undo(downTo: .character, host)
        state.removeMemory(of: id)
    }

    /// Has the driver give the queues nothing more; the device goes on when it has another server.
    func quiesce(_ host: any LifecycleHost) throws(DeviceError) {
        try outside.quiesce(id, progress: { host.servedIOs })
    }

    /// Ends the queues and closes `/dev/ublkcN` of a device that was quiesced.
    func handOver(_ host: any LifecycleHost) { undo(downTo: .character, host) }

    /// Deletes a stopped device; it is no error when another program has done so.
    ///
    /// - Throws: the error of DEL_DEV; then the device and its record still exist.
    func delete(_ host: any LifecycleHost) throws(DeviceError) {
        // Before DEL, because afterwards another device may have the number and these file names.
        let kept = state.copy(of: id)
        undo(downTo: .names, host)
        // A deleted device stays while somebody has its disk open, and with it what it knows as shared: this gives the
        // memory back at once.
        if let sharedBuffer { try? outside.unregister(sharedBuffer.number, with: id) }
        sharedBuffer = nil
        do throws(DeviceError) { try outside.delete(id) } catch {
            guard error.errno == .operationNotSupportedByDevice else {
                state.putBack(kept, of: id)
                done.append(.names)
                throw error
            }
        }
        done = []
    }

    /// Ends the server's part of a device that another program has stopped.
    ///
    /// - Returns: true when the device has been deleted too; then its files in the state directory are removed.
    func leave(_ host: any LifecycleHost) -> Bool {
        undo(downTo: .character, host)
        // A DEL that another program has begun ends soon after the queues have.
        guard driver.waitUntilGone(id, clock: platform.clock) else {
            // One that waits for a server needs it.
            if (try? driver.info(of: id))?.state == .dead { state.removeMemory(of: id) }
            return false
        }
        // Another device may have the number by now.
        if state.readRecord(id) == recordBytes { state.remove(id) }
        done = []
        return true
    }

    private func undo(downTo first: Step, _ host: any LifecycleHost) {
        for step in done.reversed() where step >= first { undo(step, host) }
        done.removeAll { $0 >= first }
    }

    private func undo(_ step: Step, _ host: any LifecycleHost) {
        switch step {
        case .device:
            try? outside.delete(id)
            _ = driver.waitUntilGone(id, clock: platform.clock)
        case .names: state.remove(id)
        case .character:
            close(characterFD)
            characterFD = -1
        case .queues: host.endQueues()
        case .grant, .log, .parameters, .record, .socket, .live, .disk, .faults, .nodes: break
        }
    }
}

/// The owner of what a device has apart from the driver: plan, log, control socket and queues.
///
/// Main thread.
protocol LifecycleHost: AnyObject {
    /// The argument of ADD_DEV, given the features that the driver offers.
    ///
    /// - Throws: when it does not offer what the device needs.
    func wanted(of offered: Features) throws(DeviceError) -> DeviceInfo
    var params: DeviceParams { get }
    /// What programs may map, of a new device; nil: nothing.
    var sharedMemory: SharedMemory? { get }
    var scansPartitions: Bool { get }
    /// The number of IOs served so far; shows whether the device makes progress.
    var servedIOs: UInt64 { get }
    /// Opens the log; a device that is recovered goes on with the one it has.
    func openLog(of id: DeviceID) throws
    /// Logs a remark.
    func note(_ remark: String)
    /// The encoded ``DeviceRecord``, and the script it is about.
    func makeRecord() -> StoredRecord
    func listen(at path: String) throws(DeviceError)
    /// Has what outlives this server in the state directory, or goes on with what is there.
    func openLive() throws(DeviceError)
    /// Starts the queue threads and returns when all have fetched their tags; on failure no thread is left.
    func startQueues(_ characterFD: Int32) throws
    /// Ends the queue threads and waits for them.
    func endQueues()
    /// Arms faults, in queues that are started later too.
    func armFaults()
    /// Removes the files that were made for a device that does not come up.
    func discardNewFiles()
}
