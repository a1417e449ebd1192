import Glibc
import SystemPackage

/// Everything a queue's thread needs to know, gathered before it starts.
struct QueueSeat: Sendable {
    let queue: QueueID
    let plan: LoadedScript.Plan
    let sizeBytes: UInt64
    let backings: DeviceStores<FileStore>
    let characterFD: Int32
    let wakeupFD: Int32
    let memory: TagBuffers
    /// The CPUs of the queue, as the driver answers.
    let affinity: [UInt8]
    let shared: SharedObjects
    let ruleCounters: RuleCounters
    let control: QueueControl
    let lines: LinePipe
    /// Told once whether the queue came up: nil, or why not.
    let ready: Promise<String?>
}

/// The life of a queue's thread: pin, load the script, offer the tags, serve, end.
enum QueueThread {
    static func run(_ seat: QueueSeat) {
        do {
            try serve(seat)
        } catch {
            seat.ready.fulfil("queue \(seat.queue.rawValue): \(error)")
        }
    }

    private static func serve(_ seat: QueueSeat) throws {
        do throws(Errno) { try SystemCall.setAffinity(seat.affinity) } catch {
            seat.lines.write(
                .warning,
                "queue \(seat.queue.rawValue) could not be pinned to its CPUs: \(error.name)"
            )
        }
        let config = seat.plan.config
        let loaded = try seat.plan.load(
            queue: seat.queue,
            shared: seat.shared,
            counters: seat.ruleCounters,
            ledger: seat.control.ledger,
            logFD: seat.lines.writeFD
        )
        var transport = try DriverTransport(
            queue: seat.queue,
            memory: seat.memory,
            characterFD: seat.characterFD,
            wakeupFD: seat.wakeupFD,
            backingFDs: seat.backings.files.map(\.fd)
        )
        transport.fetchAll()
        transport.sendFetches()
        var queue = try Queue(
            transport: transport,
            loaded: loaded,
            configuration: QueueConfiguration(
                queue: seat.queue,
                depth: Int(config.depth),
                sizeBytes: seat.sizeBytes,
                maxIOBytes: Int(config.maxIOBytes),
                stores: seat.backings.views,
                config: config,
                rules: seat.plan.rules,
                seed: seat.plan.seed
            ),
            shared: seat.shared,
            control: seat.control,
            report: QueueLog(lines: seat.lines, control: seat.control)
        )
        seat.control.watchdog?.add(queue.script)
        seat.ready.fulfil(nil)
        queue.run()
        seat.control.watchdog?.remove(queue.script)
    }
}
