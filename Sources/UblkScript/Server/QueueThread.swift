import Glibc
import SystemPackage

/// Everything that a queue's thread needs, gathered by the main thread before it starts the thread.
struct QueueContext: Sendable {
    let queue: QueueID
    let plan: LoadedScript.Plan
    let sizeBytes: UInt64
    let backings: DeviceStores<FileStore>
    /// The open `/dev/ublkcN`.
    let characterFD: Int32
    /// An eventfd that wakes the queue's thread up.
    let wakeupFD: Int32
    let memory: TagBuffers
    let dataMode: DataMode
    let sharedBuffer: SharedBuffer?
    /// ``DeviceInfo/descriptorBytes`` of the device.
    let descriptorBytes: Int
    /// The CPUs of the queue, as the mask that GET_QUEUE_AFFINITY returns.
    let affinity: [UInt8]
    let shared: SharedObjects
    let ruleCounters: RuleCounters
    /// When the script is loaded, on the device's clock.
    let loadTime: Instant
    /// See ``Script/Options/goesOn``.
    let goesOn: Bool
    let control: QueueControl
    let lines: LinePipe
    /// Fulfilled once the queue is up (nil) or has failed (why).
    let ready: Promise<String?>
}

/// The body of a queue's thread: pin it to its CPUs, load the script, fetch all tags, serve, end.
enum QueueThread {
    /// The name of the thread, by which `list -v` finds it.
    static func name(_ queue: QueueID) -> String { "ublk-q\(queue.rawValue)" }

    static func run(_ context: QueueContext) {
        do {
            try serve(context)
        } catch {
            context.ready.fulfil("queue \(context.queue.rawValue): \(error)")
        }
    }

    private static func serve(_ context: QueueContext) throws {
        do throws(Errno) { try SystemCall.setAffinity(context.affinity) } catch {
            context.lines.write(
                .warning,
                "queue \(context.queue.rawValue) could not be pinned to its CPUs: \(error.name)"
            )
        }
        let config = context.plan.config
        let loaded = try context.plan.load(
            queue: context.queue,
            shared: context.shared,
            counters: context.ruleCounters,
            ledger: context.control.ledger,
            logFD: context.lines.writeFD,
            now: context.loadTime,
            goesOn: context.goesOn
        )
        var transport = try DriverTransport(
            queue: context.queue,
            memory: context.memory,
            mode: context.dataMode,
            shared: context.sharedBuffer,
            descriptorBytes: context.descriptorBytes,
            characterFD: context.characterFD,
            wakeupFD: context.wakeupFD,
            backingFDs: context.backings.files.map(\.fd)
        )
        transport.fetchAll()
        transport.sendFetches()
        var queue = try Queue(
            transport: transport,
            loaded: loaded,
            configuration: QueueConfiguration(
                queue: context.queue,
                depth: Int(config.depth),
                sizeBytes: context.sizeBytes,
                maxIOBytes: Int(config.maxIOBytes),
                stores: context.backings.views,
                config: config,
                rules: context.plan.rules,
                seed: context.plan.seed
            ),
            shared: context.shared,
            control: context.control,
            report: QueueLog(lines: context.lines, control: context.control)
        )
        if context.ruleCounters.isPaused { queue.pause(true) }
        context.control.watchdog?.add(queue.script)
        context.ready.fulfil(nil)
        queue.run()
        context.control.watchdog?.remove(queue.script)
    }
}
