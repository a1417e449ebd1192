import CUring
import Glibc
import Synchronization

import struct SystemPackage.Errno

@testable import UblkScript

/// A ublk driver in memory: a table of devices, and commands that wait as the kernel's do.
///
/// They wait for each other and for held IO, and any of them can be made to fail once.
///
/// Any thread.
final class FakeDriver: DriverAccess, Sendable {
    typealias Hook = @Sendable (ControlCommand.Kind, DeviceID?) -> Void

    private struct Device {
        var info: ublk_dev_info
        var params = ublk_params()
        var hasDisk = false
        /// IOs that its server does not answer; a STOP waits for them.
        var heldIOs = 0
        /// Programs that have the disk open.
        var openers = 0
        /// A command has the device's mutex.
        var isLocked = false
        /// The driver has taken all tags back.
        var isStopped = false
        /// It has taken back the tags that it had, and no others.
        var isQuiesced = false
        var hasBuffer = false
    }

    private struct State {
        var devices: [UInt32: Device] = [:]
        var offered = Features(rawValue: 0x1f_ffff)
        var failures: [ControlCommand.Kind: [Errno]] = [:]
        var hook: Hook?
        var grant: @Sendable (inout ublk_dev_info) -> Void = { _ in }
        var keeps: @Sendable (inout ublk_params) -> Void = { _ in }
        var openProblem: Errno?
        var scanProblem: Errno?
        var nodeProblem: DeviceNode.Problem?
        var nodePath: Substring = ""
        /// The nodes that no user was given.
        var rootsNodes: Substring?
        var given: [ControlCommand.Kind] = []
        var scans = 0
        var syncs = 0
        /// So many START_USER_RECOVERY come before the driver has let go of the dead server.
        var busyRecoveries = 0
        /// So many looks at the disk find it busy.
        var busyLooks = 0
        /// Whose `/dev/ublkcN` a descriptor is, and what tells whether it still is that.
        var opened: [Int32: (device: UInt32, inode: ino_t)] = [:]
    }
    private let state = Mutex(State())

    // MARK: What a test wants

    func offer(_ features: Features) { state.withLock { $0.offered = features } }

    /// The next command of that kind does nothing and answers `errno`.
    ///
    /// - Parameter times: more than one: so many, as whoever recovers a device asks before the steps begin, too.
    func fail(_ kind: ControlCommand.Kind, _ errno: Errno, times: Int = 1) {
        state.withLock { $0.failures[kind] = Array(repeating: errno, count: times) }
    }

    /// Programs open the disk.
    func setOpeners(_ id: DeviceID, _ count: Int) {
        state.withLock { $0.devices[id.rawValue]?.openers = count }
    }

    /// Called when a command has been carried out and nobody was told yet.
    func onCommand(_ hook: Hook?) { state.withLock { $0.hook = hook } }

    func grant(_ change: @escaping @Sendable (inout ublk_dev_info) -> Void) {
        state.withLock { $0.grant = change }
    }

    func keepParams(_ change: @escaping @Sendable (inout ublk_params) -> Void) {
        state.withLock { $0.keeps = change }
    }

    func failOpen(_ errno: Errno?) { state.withLock { $0.openProblem = errno } }
    func failScan(_ errno: Errno) { state.withLock { $0.scanProblem = errno } }
    func keepBusy(looks: Int) { state.withLock { $0.busyLooks = looks } }

    /// As a command that does not end has it.
    func lock(_ id: DeviceID) { state.withLock { $0.devices[id.rawValue]?.isLocked = true } }

    /// Of every node whose path begins so.
    func failNode(_ path: String, _ problem: DeviceNode.Problem?) {
        state.withLock {
            $0.nodePath = path[...]
            $0.nodeProblem = problem
        }
    }

    /// Nodes whose path begins so stay root's; nil: every one is given to its user.
    func keepNodes(_ path: String?) { state.withLock { $0.rootsNodes = path.map { $0[...] } } }

    func hold(_ count: Int, _ id: DeviceID) {
        state.withLock { $0.devices[id.rawValue]?.heldIOs = count }
    }

    func letGo() {
        state.withLock { state in for id in state.devices.keys { state.devices[id]?.heldIOs = 0 } }
    }

    /// The device's server dies: nobody has its node open, and its queues end.
    ///
    /// - Parameter busyRecoveries: so many START_USER_RECOVERY are too early.
    func killServer(_ id: DeviceID, busyRecoveries: Int = 0) {
        state.withLock { state in
            state.busyRecoveries = busyRecoveries
            for (fd, node) in state.opened where node.device == id.rawValue {
                state.opened[fd] = nil
            }
        }
    }

    /// Another process has become the device's server.
    func serve(_ id: DeviceID) {
        let node = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0)
        guard let inode = Self.inode(of: node) else { return }
        state.withLock { state in
            state.opened[node] = (id.rawValue, inode)
            state.devices[id.rawValue]?.info.state = 1
            state.devices[id.rawValue]?.info.ublksrv_pid = 4711
        }
    }

    /// Changes what the driver says of a device.
    func change(_ id: DeviceID, _ body: @Sendable (inout ublk_dev_info) -> Void) {
        state.withLock { state in
            if var device = state.devices[id.rawValue] {
                body(&device.info)
                state.devices[id.rawValue] = device
            }
        }
    }

    func stateOfDevice(_ id: DeviceID) -> DeviceState? {
        noticeDeaths()
        return state.withLock { $0.devices[id.rawValue] }.map { DeviceInfo($0.info).state }
    }

    /// As another program that is quicker does it.
    func lose(_ id: DeviceID) { state.withLock { $0.devices[id.rawValue] = nil } }

    /// Adds another program's device.
    func addForeign(_ id: DeviceID, cookie: UInt64) {
        var info = ublk_dev_info()
        info.dev_id = id.rawValue
        info.ublksrv_flags = cookie
        let device = Device(info: info)
        state.withLock { $0.devices[id.rawValue] = device }
    }

    // MARK: What there is

    /// Size of the disk, bytes.
    func sizeBytes(_ id: DeviceID) -> UInt64? {
        state.withLock { $0.devices[id.rawValue]?.params.basic.dev_sectors }.map { $0 * 512 }
    }

    var given: [ControlCommand.Kind] { state.withLock { $0.given } }
    var syncs: Int { state.withLock { $0.syncs } }
    var scans: Int { state.withLock { $0.scans } }

    /// `/dev/ublkcN` is open in its server; a program that another test starts may have a copy for a moment.
    var hasOpenNode: Bool {
        state.withLock { $0.opened }.contains { Self.inode(of: $0.key) == $0.value.inode }
    }

    private static func inode(of fd: Int32) -> ino_t? {
        var status = stat()
        return unsafe fstat(fd, &status) == 0 ? status.st_ino : nil
    }

    /// Whether the driver still has tags of the queues that opened it so.
    func serves(_ characterFD: Int32) -> Bool {
        state.withLock { state in
            guard let id = state.opened[characterFD]?.device else { return false }
            return state.devices[id].map { !$0.isStopped } ?? false
        }
    }

    /// Whether it has taken tags back from the queues that opened it so, which have others.
    func hasTakenTags(_ characterFD: Int32) -> Bool {
        state.withLock { state in
            state.opened[characterFD].flatMap { state.devices[$0.device] }?.isQuiesced ?? false
        }
    }

    // MARK: DriverAccess

    func control() throws(DeviceError) -> any ControlTransport { Control(self) }

    func presentIDs() -> [DeviceID] {
        state.withLock { $0.devices.keys.sorted() }.compactMap { DeviceID($0) }
    }

    func openCharacterDevice(_ device: DeviceID) throws(Errno) -> Int32 {
        if let problem = state.withLock({ $0.openProblem }) { throw problem }
        let own = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0)
        guard let inode = Self.inode(of: own) else { throw Errno(rawValue: errno) }
        state.withLock { $0.opened[own] = (device.rawValue, inode) }
        return own
    }

    func checkNode(_ path: String) throws(DeviceNode.Problem) {
        let problem = state.withLock { path.hasPrefix($0.nodePath) ? $0.nodeProblem : nil }
        if let problem { throw problem }
    }

    func mayUse(_ path: String) -> Bool {
        state.withLock { state in !(state.rootsNodes.map { path.hasPrefix($0) } ?? false) }
    }

    func hasDisk(_ device: DeviceID) -> Bool {
        state.withLock { $0.devices[device.rawValue]?.hasDisk ?? false }
    }

    func isDiskBusy(_ device: DeviceID) -> Bool {
        state.withLock { state in
            state.busyLooks -= state.busyLooks > 0 ? 1 : 0
            return state.busyLooks > 0
        }
    }

    func scanPartitions(_ device: DeviceID) throws(Errno) {
        let problem = state.withLock { state in
            state.scans += 1
            return state.scanProblem
        }
        if let problem { throw problem }
    }

    func syncDisk(_ device: DeviceID) { state.withLock { $0.syncs += 1 } }

    // MARK: Commands

    private final class Control: ControlTransport {
        private let driver: FakeDriver
        init(_ driver: FakeDriver) { self.driver = driver }

        func run(
            _ command: ControlCommand,
            payload: inout [UInt8],
            seconds: Int
        ) throws(DeviceError) -> Int32 {
            let hook: Hook?
            do throws(Errno) { hook = try driver.run(command, &payload) } catch {
                throw .command(command.kind, command.device, error)
            }
            hook?(command.kind, command.device)
            return 0
        }
    }

    private func run(_ command: ControlCommand, _ payload: inout [UInt8]) throws(Errno) -> Hook? {
        noticeDeaths()
        let failure = state.withLock { state in
            state.given.append(command.kind)
            return state.failures[command.kind]?.popLast()
        }
        if let failure { throw failure }
        switch command.kind {
        case .getFeatures: payload = Bytes.of(state.withLock { $0.offered.rawValue })
        case .addDevice: payload = Bytes.of(try add(Bytes.load(ublk_dev_info.self, from: payload)))
        case .getDeviceInfo: payload = Bytes.of(try device(command).info)
        case .getQueueAffinity: _ = try device(command)
        default: try withMutex(command, &payload)
        }
        return state.withLock { $0.hook }
    }

    /// A device that can be recovered, and whose node nobody has open any more, waits for a server.
    private func noticeDeaths() {
        state.withLock { state in
            for (id, device) in state.devices {
                let features = Features(rawValue: device.info.flags)
                let isOpen = state.opened.contains {
                    $0.value.device == id && Self.inode(of: $0.key) == $0.value.inode
                }
                guard device.info.state == 1, !isOpen, features.contains(.userRecovery) else {
                    continue
                }
                state.devices[id]?.info.state = features.contains(.userRecoveryFailIO) ? 3 : 2
                state.devices[id]?.info.ublksrv_pid = -1
            }
        }
    }

    private func add(_ asked: ublk_dev_info) throws(Errno) -> ublk_dev_info {
        var info = asked
        info.ublksrv_pid = -1
        let added = state.withLock { state -> ublk_dev_info? in
            if info.dev_id == .max {
                info.dev_id = 0
                while state.devices[info.dev_id] != nil { info.dev_id += 1 }
            }
            guard state.devices[info.dev_id] == nil else { return nil }
            state.grant(&info)
            state.devices[info.dev_id] = Device(info: info)
            return info
        }
        guard let added else { throw .fileExists }
        return added
    }

    private func device(_ command: ControlCommand) throws(Errno) -> Device {
        let id = command.device?.rawValue ?? .max
        let device = state.withLock { $0.devices[id] }
        guard let device else { throw .operationNotSupportedByDevice }
        return device
    }

    /// Those that wait for each other, and STOP and DEL for every held IO.
    private func withMutex(_ command: ControlCommand, _ payload: inout [UInt8]) throws(Errno) {
        let id = command.device?.rawValue ?? .max
        try wait { state in
            guard let device = state.devices[id] else { return .operationNotSupportedByDevice }
            guard !device.isLocked else { return nil }
            state.devices[id]?.isLocked = true
            return Errno(rawValue: 0)
        }
        defer { state.withLock { $0.devices[id]?.isLocked = false } }
        switch command.kind {
        case .setParams:
            var params = Bytes.load(ublk_params.self, from: payload)
            state.withLock { $0.keeps }(&params)
            let kept = params
            state.withLock { $0.devices[id]?.params = kept }
        case .getParams: payload = Bytes.of(try device(command).params)
        case .startRecovery:
            let isBusy = state.withLock { state in
                state.busyRecoveries -= state.busyRecoveries > 0 ? 1 : 0
                return state.busyRecoveries > 0
            }
            let info = DeviceInfo(try device(command).info)
            guard info.features.contains(.userRecovery) else { throw .invalidArgument }
            guard !isBusy, info.state.waitsForServer, !hasOpenNode else { throw .resourceBusy }
        case .quiesceDevice:
            guard DeviceInfo(try device(command).info).features.contains(.quiesce) else {
                throw .notSupported
            }
            state.withLock { $0.devices[id]?.isQuiesced = true }
        case .startDevice, .endRecovery:
            state.withLock {
                $0.devices[id]?.isQuiesced = false
                $0.devices[id]?.hasDisk = true
                $0.devices[id]?.info.state = 1
                $0.devices[id]?.info.ublksrv_pid = Int32(truncatingIfNeeded: command.data)
            }
        case .registerBuffer, .unregisterBuffer:
            let isNew = command.kind == .registerBuffer
            guard try device(command).hasBuffer != isNew else { throw .invalidArgument }
            state.withLock { $0.devices[id]?.hasBuffer = isNew }
        case .updateSize:
            state.withLock { $0.devices[id]?.params.basic.dev_sectors = command.data }
        case .tryStopDevice where state.withLock { $0.devices[id]?.openers ?? 0 } > 0:
            throw .resourceBusy
        case .stopDevice, .deleteDevice, .tryStopDevice:
            state.withLock { $0.devices[id]?.hasDisk = false }
            try wait { state in
                guard let device = state.devices[id] else { return .operationNotSupportedByDevice }
                return device.heldIOs == 0 ? Errno(rawValue: 0) : nil
            }
            state.withLock {
                $0.devices[id]?.isStopped = true
                $0.devices[id]?.info.state = 0
                if command.kind == .deleteDevice { $0.devices[id] = nil }
            }
        default: throw .notSupported
        }
    }

    /// Until `isDone` gives a number; not 0 is an error.
    private func wait(_ isDone: (inout State) -> Errno?) throws(Errno) {
        while true {
            if let errno = state.withLock({ isDone(&$0) }) {
                guard errno.rawValue == 0 else { throw errno }
                return
            }
            usleep(500)
        }
    }
}

/// The two ends of a socket for messages.
func socketPair() -> (Int32, Int32) {
    var ends: [Int32] = [-1, -1]
    let result = unsafe socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | O_CLOEXEC, 0, &ends)
    precondition(result == 0, "socketpair")
    return (ends[0], ends[1])
}
