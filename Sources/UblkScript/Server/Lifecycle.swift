import Glibc
import SystemPackage

/// The life of one device, as steps that are taken in order and undone from the last one back.
///
///     bringUp: every ``Step``; one that fails undoes those before it
///     stop:    STOP_DEV while the queues still serve ─► the queues end ─► /dev/ublkcN is closed
///     delete:  the names in the state directory go ─► DEL_DEV
///     leave:   after another program's STOP_DEV or DEL_DEV, what is left of the same
///
/// ``done`` alone says what there is to undo. A step that fails leaves nothing of itself. The driver's part
/// is here, all else is the ``LifecycleHost``'s. The main thread.
final class Lifecycle {
    /// What a device has once it was taken, in that order; nothing to undo where nothing is said of it.
    enum Step: Int, CaseIterable, Comparable, Sendable {
        /// ADD_DEV gave a number; undone by DEL_DEV.
        case device
        /// The driver granted what it was asked for.
        case grant
        /// The number's names in the state directory are this device's; undone by removing all of them, those
        /// of the three steps with files there included.
        case names
        case log
        /// SET_PARAMS took them.
        case parameters
        case record
        case socket
        /// `/dev/ublkcN` is open; undone by closing it.
        case character
        /// Each queue has a thread that offered its tags; undone by ending those.
        case queues
        /// START_DEV made `/dev/ublkbN`, and its partitions are known. STOP_DEV takes the disk away, and so
        /// does the DEL_DEV of a device that did not come up.
        case disk
        /// Rules and handlers are asked.
        case faults
        /// Both nodes are the driver's.
        case nodes

        static func < (a: Step, b: Step) -> Bool { a.rawValue < b.rawValue }
    }

    /// The steps that have been taken and not undone.
    private(set) var done: [Step] = []
    private(set) var id = DeviceID(0)
    private(set) var info = DeviceInfo(id: nil, queues: 0, depth: 0, maxIOBytes: 0, features: [])
    let driver: DriverQueries
    /// Gives the commands that wait in the kernel, in a process of its own.
    let outside: OutsideControl
    private let platform: ServerPlatform
    private let newDevice: NewDevice
    private let state: StateDirectory
    private var asked = DeviceInfo(id: nil, queues: 0, depth: 0, maxIOBytes: 0, features: [])
    private var characterFD: Int32 = -1
    private var recordBytes: [UInt8] = []

    init(_ platform: ServerPlatform, state: StateDirectory) throws(DeviceError) {
        self.platform = platform
        self.state = state
        newDevice = NewDevice(access: platform.access, clock: platform.clock)
        driver = DriverQueries(try platform.access.control())
        outside = try OutsideControl(platform.companion)
    }

    // MARK: Up

    /// Makes the device; on any failure nothing of it is left.
    func bringUp(_ host: any LifecycleHost) throws {
        do {
            for step in Step.allCases {
                try take(step, host)
                done.append(step)
            }
        } catch {
            undo(downTo: .character, host)
            host.discardNewFiles()
            undo(downTo: .device, host)
            throw error
        }
    }

    private func take(_ step: Step, _ host: any LifecycleHost) throws {
        switch step {
        case .device: try add(host)
        case .grant: try checkGrant()
        case .names: try state.create()
        case .log: try host.openLog(of: id)
        case .parameters: try newDevice.setParams(host.params, of: id)
        case .record: try keep(record: host.makeRecord())
        case .socket: try host.listen(at: state.socketPath(id))
        case .character: characterFD = try newDevice.open(id)
        case .queues: try host.startQueues(characterFD)
        case .disk: try start(host)
        case .faults: host.armFaults()
        case .nodes:
            try newDevice.waitForNodes(of: id)
            info = try driver.info(of: id)
        }
    }

    private func add(_ host: any LifecycleHost) throws(DeviceError) {
        let offered = try driver.features()
        guard offered.contains(.ioctlEncode) else {
            throw .unsupported(
                "this kernel's ublk driver is too old (no ioctl-encoded commands): 6.12 or later is needed"
            )
        }
        asked = host.wanted(of: offered)
        info = try newDevice.add(asked)
        guard let granted = info.id else { throw .unsupported("ADD_DEV gave no device number") }
        id = granted
    }

    private func checkGrant() throws(DeviceError) {
        guard info.features.isSuperset(of: asked.features), info.depth == asked.depth,
            info.maxIOBytes == asked.maxIOBytes
        else {
            throw .unsupported(
                "device \(id): the driver granted other features or limits than it was asked for (ADD_DEV)"
            )
        }
    }

    /// START_DEV and the partition scan.
    ///
    /// The scan's reads must be over before faults are armed: one could hang them, and they would count.
    private func start(_ host: any LifecycleHost) throws(DeviceError) {
        let driverScans = !info.features.contains(.noAutoPartitionScan)
        let scans = !driverScans && host.scansPartitions
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

    /// Writes the record, or replaces it.
    func keep(record bytes: [UInt8]) throws(DeviceError) {
        try state.writeRecord(bytes, of: id)
        recordBytes = bytes
    }

    // MARK: Down

    /// Takes the disk away and ends the queues.
    ///
    /// - Throws: when `servedIOs` does not change for `patienceSeconds`. Nothing is undone then: the STOP is
    ///   still under way.
    func stop(patienceSeconds: Int, _ host: any LifecycleHost) throws(DeviceError) {
        try outside.stop(id, seconds: patienceSeconds, progress: { host.servedIOs })
        undo(downTo: .character, host)
    }

    /// Gives the number of a stopped device back; that another program was quicker is no failure.
    ///
    /// - Throws: what DEL_DEV said; the device, with its record, is there.
    func delete(_ host: any LifecycleHost) throws(DeviceError) {
        // Before DEL: afterwards the number, and with it these names, may be another device's.
        undo(downTo: .names, host)
        do throws(DeviceError) { try outside.delete(id) } catch {
            guard error.errno == .operationNotSupportedByDevice else {
                try? state.writeRecord(recordBytes, of: id)
                done.append(.names)
                throw error
            }
        }
        done = []
    }

    /// Ends our side of a device that another program has stopped.
    ///
    /// - Returns: true when the device is deleted too; then its names are removed.
    func leave(_ host: any LifecycleHost) -> Bool {
        undo(downTo: .character, host)
        // A DEL that somebody else began ends soon after we have let go.
        guard driver.waitUntilGone(id, clock: platform.clock) else { return false }
        // The number may be another device's by now.
        if state.readRecord(id) == recordBytes { state.remove(id) }
        done = []
        return true
    }

    private func undo(downTo first: Step, _ host: any LifecycleHost) {
        while let step = done.last, step >= first {
            undo(step, host)
            done.removeLast()
        }
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
        case .grant, .log, .parameters, .record, .socket, .disk, .faults, .nodes: break
        }
    }
}

/// Who owns what a device has beside the driver: its plan, log, callers and queues.
protocol LifecycleHost: AnyObject {
    /// What ADD_DEV is asked for.
    func wanted(of offered: Features) -> DeviceInfo
    var params: DeviceParams { get }
    var scansPartitions: Bool { get }
    /// Changes while the device serves.
    var servedIOs: UInt64 { get }
    func openLog(of id: DeviceID) throws
    /// For the log.
    func note(_ remark: String)
    func makeRecord() -> [UInt8]
    func listen(at path: String) throws(DeviceError)
    /// Returns when all are up; on failure none is left.
    func startQueues(_ characterFD: Int32) throws
    /// Ends their threads and waits for them.
    func endQueues()
    func armFaults()
    /// Removes what was made for a device that does not come up.
    func discardNewFiles()
}
