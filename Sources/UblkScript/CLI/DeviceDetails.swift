import Glibc

/// What `list -v` tells of a device besides its entry: all that its numbers stand for.
///
/// Never waits for the device, as ``DeviceListing`` does not: it is made of the driver's lock-free query, the record,
/// `/proc` and the status of the server. So the parameters are those that the server gave to SET_PARAMS, and nobody
/// knows those of another program's device: GET_PARAMS waits behind a STOP.
struct DeviceDetails: Encodable {
    /// A set bit of ``Features``.
    struct Flag: Encodable {
        var name: String
        var bit: Int
        /// The first kernel that has it; nil: this program does not know it.
        var since: String?
        var purpose: String
    }

    struct Queue: Encodable {
        var queue: UInt16
        /// Tags 0 ..< this.
        var tags: UInt16
        /// The thread that has fetched them; nil: there is none, or it is another program's.
        var thread: Int32?
        /// The CPUs on which it may run, as `0-3`.
        var cpus: String?
        /// IOs that the server has, and those of them that wait; nil: the server was not asked, or was silent.
        var inServer: UInt64?
        var delayed: UInt64?
        var held: UInt64?
    }

    struct Paths: Encodable {
        var disk: String
        /// Where the server fetches requests.
        var character: String
        var record: String?
        var socket: String?
        var log: String?
        /// A copy of the script as it was loaded.
        var script: String?
    }

    var flags: [Flag]
    var parameters: DeviceParams?
    /// Distance between the io descriptors of two tags.
    var ioDescBytes: UInt16
    var queues: [Queue]
    var paths: Paths

    init(_ info: DeviceInfo, id: DeviceID, record: DeviceRecord?, state: StateDirectory = .standard)
    {
        flags = info.features.named.map { name, mask in
            let bit = mask.trailingZeroBitCount
            guard bit < Feature.all.count else {
                return Flag(name: name, bit: bit, purpose: "this ublk-script does not know it")
            }
            let known = Feature.all[bit]
            return Flag(name: name, bit: bit, since: known.since, purpose: known.purpose)
        }
        parameters = record?.driver?.params
        ioDescBytes = info.descriptorBytes
        let threads = Self.threads(of: info.serverPID)
        queues = (0..<info.queues).map { queue in
            let thread = threads[QueueThread.name(QueueID(queue))]
            return Queue(
                queue: queue,
                tags: info.depth,
                thread: thread,
                cpus: thread.flatMap { Self.cpus(of: $0, in: info.serverPID) }
            )
        }
        paths = Paths(disk: id.blockPath, character: id.characterPath)
        guard let record else { return }
        paths.record = state.recordPath(id)
        paths.socket = state.socketPath(id)
        paths.log = state.logPath(id)
        paths.script = record.loadedScript
    }

    mutating func take(_ status: ServerStatus) {
        for index in queues.indices {
            guard let load = status.queues.first(where: { $0.queue == queues[index].queue }) else {
                continue
            }
            queues[index].inServer = load.inServer
            queues[index].delayed = load.delayed
            queues[index].held = load.held
        }
    }

    // MARK: Threads

    /// The threads of a process, by their names.
    private static func threads(of pid: Int32) -> [String: Int32] {
        guard pid > 0 else { return [:] }
        var threads: [String: Int32] = [:]
        for name in DirectoryListing.names("/proc/\(pid)/task") {
            guard let thread = Int32(name), let comm = text("/proc/\(pid)/task/\(name)/comm") else {
                continue
            }
            threads[String(comm.prefix { $0 != "\n" })] = thread
        }
        return threads
    }

    private static func cpus(of thread: Int32, in pid: Int32) -> String? {
        let key = "Cpus_allowed_list:"
        let lines = text("/proc/\(pid)/task/\(thread)/status")?.split(separator: "\n") ?? []
        return lines.first { $0.hasPrefix(key) }.map {
            $0.dropFirst(key.count).filter { $0 != "\t" && $0 != " " }
        }
    }

    private static func text(_ path: String) -> String? {
        let content = try? WholeFile.read(path, bytesMax: 16 << 10, takesPipe: false) {}
        return content.map { String(decoding: $0.bytes, as: UTF8.self) }
    }
}

// MARK: Text

extension DeviceDetails {
    /// Paragraphs for people, which whoever prints them wraps; two blanks begin what hangs below.
    var lines: [String] {
        var lines = ["paths:"]
        let shown: [(String, String?)] = [
            ("disk", paths.disk), ("server's side", paths.character), ("record", paths.record),
            ("socket", paths.socket), ("log", paths.log), ("script as loaded", paths.script),
        ]
        lines += Self.table(shown.compactMap { name, path in path.map { (name, $0) } })
        lines += queues.map(Self.line)
        lines.append("io descriptors of \(ioDescBytes) bytes")
        if let parameters {
            lines.append("parameters, as SET_PARAMS was given them:")
            lines += Self.table(Self.rows(parameters))
        }
        lines.append("flags:")
        lines += Self.table(flags.map { ($0.name, $0.purpose) })
        return lines
    }

    private static func table(_ rows: [(String, String)]) -> [String] {
        var table = TextTable([.left, .left])
        for row in rows { table.add([row.0, row.1]) }
        return table.lines.map { "  " + $0 }
    }

    private static func line(_ queue: Queue) -> String {
        let thread =
            queue.thread.map { "thread \($0)" + (queue.cpus.map { " on CPU \($0)" } ?? "") }
            ?? "no thread of ublk-script"
        let load = queue.inServer.map { count in
            let waits = [("delayed", queue.delayed), ("held", queue.held)].compactMap {
                word,
                count in
                count.flatMap { $0 > 0 ? "\($0) \(word)" : nil }
            }
            return ", \(count) IO\(count == 1 ? "" : "s") in the server"
                + (waits.isEmpty ? "" : " (\(waits.joined(separator: ", ")))")
        }
        let last = max(1, queue.tags) - 1
        return "queue \(queue.queue): tags 0 to \(last), \(thread)\(load ?? "")"
    }

    private static func rows(_ params: DeviceParams) -> [(String, String)] {
        func size(_ bytes: UInt32) -> String {
            bytes == 0 ? "none" : Quantity.text(bytes: UInt64(bytes))
        }
        func limits(_ limits: DeviceParams.Limits?) -> String {
            guard let limits else { return "not offered" }
            let most = Quantity.text(bytes: limits.maxBytes)
            return "granularity \(size(limits.granularityBytes)), at most \(most)"
        }
        let attributes = [
            ("READ_ONLY", params.readOnly), ("ROTATIONAL", params.rotational),
            ("VOLATILE_CACHE", params.volatileCache), ("FUA", params.fua),
        ].filter(\.1).map(\.0)
        let sectors = "\(params.sizeBytes / 512) sectors of 512 bytes"
        return [
            ("size", "\(Quantity.text(bytes: params.sizeBytes)), \(sectors)"),
            ("logical block", size(params.logicalBlockBytes)),
            ("physical block", size(params.physicalBlockBytes)),
            ("io_min, io_opt", "\(size(params.ioMinBytes)), \(size(params.ioOptBytes))"),
            ("largest IO", size(params.maxIOBytes)), ("chunk", size(params.chunkBytes)),
            ("attributes", attributes.isEmpty ? "none" : attributes.joined(separator: " ")),
            ("discard", limits(params.discard)), ("write zeroes", limits(params.writeZeroes)),
        ]
    }
}
