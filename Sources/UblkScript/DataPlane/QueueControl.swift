import Synchronization

/// What another thread may tell a running queue.
enum QueueMessage: Sendable {
    case ask(QueueRequest, Promise<QueueAnswer>)
    /// Load another script beside the one that runs; nil: it is ready, or else why not.
    case prepare(ScriptReload, Promise<String?>)
    /// Go on with the script that was prepared.
    case adopt(Promise<Bool>)
    /// Forget it.
    case discard
    /// Note the steps of requests in this ring from now on; nil: no more.
    case trace(TraceRing?)
    /// The device has another size.
    case resize(DeviceSize, Promise<Bool>)
    /// From now on ask the script nothing and hold nothing: the device is being taken away.
    case drain
    /// Leave the loop, whatever is still parked.
    case quit

    var isReload: Bool { if case .prepare = self { true } else { false } }
}

/// The size of a device and of its own store, which may be larger.
struct DeviceSize: Sendable {
    let deviceBytes: UInt64
    /// nil: the store has no size.
    let storeBytes: UInt64?
}

/// What a queue needs to go on with another script.
struct ScriptReload: Sendable {
    let plan: LoadedScript.Plan
    /// For the new rules, made for all queues.
    let counters: RuleCounters
    let logFD: Int32
}

/// The side of a queue that other threads see: a switch, a mailbox, and its counters.
///
/// Any thread.
final class QueueControl: Sendable {
    /// Faults happen only while this is set.
    ///
    /// In a new device it is not until START_DEV has returned, so that a partition scan cannot hang.
    let armed = Atomic<Bool>(false)
    let counters = QueueCounters()
    let times = IOTimes()
    let ledger: Ledger
    var queue: QueueID { ledger.queue }
    /// Watches the queue's script; nil: nobody does.
    let watchdog: Watchdog?
    /// A handler raised and `on_error` is `"stop"`: the main thread is to stop the device.
    let wantsStop = Atomic<Bool>(false)
    /// The driver has taken a tag back, so no further request comes: it has stopped or quiesced the device.
    let hasLostTag = Atomic<Bool>(false)
    private let newest = Mutex<Pending?>(nil)
    private let wake: @Sendable () -> Void

    /// - Parameter wake: wakes the queue's thread.
    init(
        ledger: Ledger = Ledger(queue: QueueID(0)),
        watchdog: Watchdog? = nil,
        wake: @escaping @Sendable () -> Void
    ) {
        self.ledger = ledger
        self.watchdog = watchdog
        self.wake = wake
    }

    /// Faults happen from now on; the queue's timers start.
    func arm() {
        armed.store(true, ordering: .relaxed)
        wake()
    }

    /// A message that has not been taken, linked to the one before it.
    private final class Pending: Sendable {
        let message: QueueMessage
        let earlier: Pending?
        init(_ message: QueueMessage, after earlier: Pending?) {
            self.message = message
            self.earlier = earlier
        }
    }

    /// Allocates nothing under the lock, which the queue's thread takes: memory may have to be won
    /// by writing to the very device that this thread would then not serve.
    func send(_ message: QueueMessage) {
        var earlier = newest.withLock { $0 }
        while true {
            let expected = earlier
            let pending = Pending(message, after: expected)
            earlier = newest.withLock { newest in
                let seen = newest
                if seen === expected { newest = pending }
                return seen
            }
            if earlier === expected { return wake() }
        }
    }

    /// The queue's thread, when it was woken.
    ///
    /// - Returns: what was sent since the last time, in that order.
    func takeMessages() -> [QueueMessage] {
        var pending = newest.withLock { newest in
            defer { newest = nil }
            return newest
        }
        var messages: [QueueMessage] = []
        while let current = pending {
            messages.append(current.message)
            pending = current.earlier
        }
        return messages.reversed()
    }
}
