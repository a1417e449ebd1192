import Glibc

/// One device as `list` and `add` print it, as text and JSON.
struct DeviceListing: Encodable {
    var path: String
    var id: UInt32
    var state: String
    var queues: UInt16
    var depth: UInt16
    var maxIOBytes: UInt32
    var serverPID: Int32
    var features: UInt64
    var sizeBytes: UInt64?
    var logicalBlockBytes: UInt32?
    var script: String?
    var backing: String?
    var file: String?
    /// Other devices may have the file, too.
    var isShared: Bool?
    var seed: UInt64?
    /// ``DataMode`` by the device's features; nil: none that this program serves.
    var data: String?
    /// Why the server chose that mode; nil: no record tells.
    var dataReason: String?
    /// The file that programs map so that their IO needs no copy; nil: there is none.
    var sharedMemory: String?
    /// What becomes of IO when the server dies: `wait`, `reissue` or `fail`; nil: the device goes with it.
    var recovery: String?
    /// Another server is started when one dies.
    var restarts: Bool?
    /// The user without root whose device it is; nil: it is root's.
    var ownerUID: UInt32?
    /// The commands that are left for a device without a server; nil: it has one, or is not ours.
    var nextStep: String?
    /// `on` or `off`; nil when the server was not asked.
    var faults: String?
    var remark: String?
    /// The users that keep the number of a deleted device taken.
    var story: String?
    /// Why the node at ``path`` is not the device; nil: it is.
    var nodeProblem: String?
    /// The device's server did not answer within ``statusSeconds``.
    var isSilent: Bool?
    var scriptErrors: UInt64?
    var backingErrors: UInt64?
    var drainedIOs: UInt64?
    var unsupportedIOs: UInt64?
    var copyErrors: UInt64?
    /// The device has a record that cannot be parsed.
    var isRecordDamaged: Bool?
    /// Format of a record that only a newer version of this program can read.
    var recordFormat: Int?
    /// All that the numbers stand for; nil: nobody has asked for that.
    var details: DeviceDetails?

    static let statusSeconds = 2

    /// Never waits for the device: uses the driver's lock-free query, sysfs and the record.
    ///
    /// - Parameter record: nil when there is none, or it cannot be read.
    init(
        _ info: DeviceInfo,
        id: DeviceID,
        record: DeviceRecord?,
        isRecordDamaged: Bool = false
    ) {
        self.isRecordDamaged = isRecordDamaged ? true : nil
        path = id.blockPath
        self.id = id.rawValue
        queues = info.queues
        depth = info.depth
        maxIOBytes = info.maxIOBytes
        serverPID = info.serverPID
        features = info.features.rawValue
        // Kernels before 6.15 call a device live for a while after its server has died.
        let isOrphan =
            info.state.waitsForServer
            || record.map { !ServerProcess.isAlive($0.serverPID) } ?? false
        let mode = DeviceConfig.Recovery(info.features)
        recovery = mode == .off ? nil : mode.rawValue
        restarts = record?.restarts
        ownerUID = info.ownerOtherThanRoot
        state = (isOrphan && info.state == .live ? mode.stateWithoutServer : info.state).name
        if isOrphan, let record, RecoveredDevice.refusal(record, info, server: nil) == nil {
            nextStep = "ublk-script recover \(id), or ublk-script del \(id)"
        }
        if DeviceUsers.isDeleted(id, info) {
            state = "DELETED"
            story = DeviceUsers(of: id).descriptionOfDeleted
        } else {
            do throws(DeviceNode.Problem) { try DeviceNode.check(id.blockPath) } catch {
                nodeProblem = "\(error)"
            }
        }
        if let sectors = Self.sysfsNumber("/sys/block/ublkb\(id)/size") {
            sizeBytes = sectors * 512
        } else {
            sizeBytes = record?.sizeBytes
        }
        logicalBlockBytes =
            Self.sysfsNumber("/sys/block/ublkb\(id)/queue/logical_block_size").map { UInt32($0) }
            ?? record?.logicalBlockBytes
        script = record?.script
        backing = record?.backing
        file = record?.file
        isShared = record?.isShared
        seed = record?.seed
        data = DataMode(info.features)?.rawValue
        dataReason = record?.dataReason
        sharedMemory = record?.sharedMemory
    }

    /// Asks the device's server for its status, for at most ``statusSeconds``.
    mutating func askServer(_ record: DeviceRecord?) {
        guard let record, ServerProcess.isAlive(record.serverPID) else { return }
        let path = StateDirectory.standard.socketPath(DeviceID(id))
        let connection = AdminConnection(connectingTo: path, seconds: Self.statusSeconds)
        // A server that has ended, or a socket that we may not use, does not count as silent.
        guard let connection else {
            if Glibc.errno == EAGAIN { isSilent = true }
            return
        }
        do throws(AdminConnection.Silence) {
            let answer = try connection.ask(.status)
            if answer.ok { take(ServerStatus(lines: answer.text)) }
        } catch {
            if case .late = error { isSilent = true }
        }
    }

    mutating func take(_ status: ServerStatus) {
        faults = status.faultsAreOn ? "on" : "off"
        remark = status.remark.isEmpty ? nil : status.remark
        scriptErrors = status.failures[.scriptErrors, default: 0]
        backingErrors = status.failures[.backingErrors, default: 0]
        drainedIOs = status.failures[.drained, default: 0]
        unsupportedIOs = status.failures[.unsupported, default: 0]
        copyErrors = status.failures[.copyErrors, default: 0]
        failures = status.failureText
        details?.take(status)
    }
    private var failures = ""

    private enum CodingKeys: String, CodingKey {
        case path, id, state, queues, depth, maxIOBytes, serverPID, features, sizeBytes
        case logicalBlockBytes, script, backing, file, seed, recovery, nextStep, faults, remark
        case isSilent, restarts, isShared, ownerUID
        case story, nodeProblem
        case scriptErrors, backingErrors, drainedIOs, unsupportedIOs, copyErrors
        case isRecordDamaged, recordFormat, data, dataReason, sharedMemory, details
    }

    /// With ``details`` it says what they are instead of naming the flags only.
    var text: String {
        let names = Features(rawValue: features).named.map(\.name).joined(separator: " ")
        let unread =
            isRecordDamaged == true
            ? "(its record is damaged)"
            : recordFormat.map { "(a newer ublk-script made it: its record is of format \($0))" }
        let owner =
            unread ?? story ?? script.map { "script \($0)" }
            ?? (ownerUID.map { "(not made here, but by \(UserName.text($0)))" }
                ?? "(not made by ublk-script)")
        var lines = [
            "dev id \(id) queues \(queues) depth \(depth) block size \(logicalBlockBytes ?? 0)"
                + " max io \(Quantity.text(bytes: UInt64(maxIOBytes))) server pid \(serverPID)"
                + (ownerUID.map { " owner \(UserName.text($0))" } ?? "")
        ]
        if let backing, let seed {
            lines.append(
                "backing \(backing)\(file.map { " \($0)" } ?? "")\(isShared == true ? " (shared)" : "") seed \(seed)"
                    + (recovery.map { " recovery \($0)" } ?? "")
                    + (restarts == true ? ", restarted by itself" : "")
            )
        }
        if let sharedMemory { lines.append("memory to share: \(sharedMemory)") }
        if let nextStep {
            let io = recovery == DeviceConfig.Recovery.fail.rawValue ? "fails until" : "waits for"
            lines.append("it has no server, IO \(io) the next one:")
            lines.append(nextStep)
        }
        if details != nil {
            lines.append("data \(data ?? "?")\(dataReason.map { ": \($0)" } ?? "")")
            let mode = DeviceConfig.Recovery(Features(rawValue: features))
            lines.append("recovery \(mode.rawValue): \(mode.meaning)")
        }
        if let nodeProblem { lines.append(nodeProblem) }
        if isSilent == true {
            lines.append("the server does not answer within \(Self.statusSeconds) s")
        }
        if faults == "off" { lines.append("faults are off\(remark.map { ": \($0)" } ?? "")") }
        if !failures.isEmpty { lines.append(failures) }
        lines.append("flags 0x\(String(features, radix: 16)) [ \(names) ]")
        lines += details?.lines ?? []
        let size = sizeBytes.map { Quantity.text(bytes: $0) } ?? "?"
        let head = Wrap.text("\(path): \(size) state \(state) \(owner)", hanging: 8)
        // Coloured after the text is wrapped, because colour sequences have no width.
        let style = state == DeviceState.live.name ? Style.good : .bad
        let colored = head.replacing(
            " state \(state) ",
            with: " state \(style.paint(state)) ",
            maxReplacements: 1
        )
        return ([colored] + lines.map { Wrap.text("        " + $0) }).joined(separator: "\n")
    }

    private static func sysfsNumber(_ path: String) -> UInt64? {
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 32)
        let got = unsafe bytes.withUnsafeMutableBytes { unsafe read(fd, $0.baseAddress, $0.count) }
        let digits = bytes.prefix(max(0, got)).prefix {
            ("0"..."9").contains(Character(UnicodeScalar($0)))
        }
        return UInt64(String(decoding: digits, as: UTF8.self))
    }
}

extension DeviceConfig.Recovery {
    /// What becomes of IO when the server dies.
    fileprivate var meaning: String {
        switch self {
        case .off: "when its server dies the disk goes too, and IO fails"
        case .wait:
            "when its server dies IO under way fails (EIO), and new IO waits for the next one"
        case .reissue: "when its server dies IO under way and new IO wait for the next one"
        case .fail: "when its server dies IO fails until there is another one"
        }
    }
}
