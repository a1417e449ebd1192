import CLua
import Synchronization

/// What another thread may ask of a running queue.
enum QueueMessage: Sendable {
    /// Let go of held IOs; how many there were.
    case release(Release, Promise<Int>)
    /// Tell of the IOs that are held, in the order of their arrival.
    case held(Promise<[HeldReport]>)
    /// A built-in word of ``LiveControl``, or the script's `ctl`, whose answer may be wanted as JSON.
    case control([String], Promise<ControlAnswer>, asJSON: Bool = false)
    /// Hold every IO that arrives, before anything is decided about it; or let them go on.
    case pause(Bool)
    /// Load another script beside the one that runs; nil: it is ready, or else why not.
    case prepare(ScriptReload, Promise<String?>)
    /// Go on with the script that was prepared.
    case adopt(Promise<Bool>)
    /// Forget it.
    case discard
    /// From now on ask the script nothing and hold nothing: the device is being taken away.
    case drain
    /// Leave the loop, whatever is still parked.
    case quit

    var isReload: Bool { if case .prepare = self { true } else { false } }
}

/// Which held IOs are let go, in which order, and to what.
struct Release: Sendable, Equatable {
    /// Of their arrival at the queue.
    typealias Order = us_release_order

    /// An IO that is held, by where it came in.
    struct Place: Sendable, Equatable {
        let queue: UInt16
        let tag: UInt16
    }

    var order = US_RELEASE_FIFO
    /// Only these, in this order; empty: all.
    var places: [Place] = []
    /// At most so many on each queue.
    var count = Int.max
    /// nil: they end as the script meant.
    var errno: Int32?
}

extension Release {
    /// What follows the word `release`: an order, a count, an errno, places such as 0:17, in any order.
    init(words: some Sequence<String>) throws(LiveControl.Refusal) {
        var given: [String: String] = [:]
        func once(_ kind: String, _ word: String) throws(LiveControl.Refusal) {
            guard let before = given.updateValue(word, forKey: kind) else { return }
            throw LiveControl.Refusal(
                text: "release: two \(kind)s are named: \(before) and \(word)"
            )
        }
        for word in words {
            if let order = Order.all.first(where: { $0.word == word }) {
                try once("order", word)
                self.order = order
            } else if let count = Int(word), count >= US_RELEASE_COUNT_MIN {
                try once("count", word)
                self.count = count
            } else if let place = Self.place(word) {
                guard !places.contains(place) else {
                    throw LiveControl.Refusal(text: "release: \(word) is named twice")
                }
                places.append(place)
            } else if let errno = Quantity.blockErrno(named: word) {
                try once("errno", word)
                self.errno = errno
            } else {
                throw LiveControl.Refusal(
                    text:
                        "release: \"\(word)\" is no order (\(Order.all.map(\.word).joined(separator: ", "))), no count above 0, no QUEUE:TAG and no errno "
                        + "(\(Quantity.blockErrnoNames.joined(separator: ", ")))"
                )
            }
        }
    }
}

extension us_release_order {
    static let all = (0..<US_RELEASE_ORDER_COUNT.rawValue).map(us_release_order.init(rawValue:))

    /// As `release` takes it, in a script and at `ctl`.
    var word: String {
        guard let word = unsafe us_release_order_name(rawValue) else { return "?" }
        return unsafe String(cString: word)
    }
}

extension Release {
    /// `QUEUE:TAG`.
    private static func place(_ word: String) -> Place? {
        let parts = word.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let queue = UInt16(parts[0]), let tag = UInt16(parts[1]) else {
            return nil
        }
        return Place(queue: queue, tag: tag)
    }
}

/// What a queue needs to go on with another script.
struct ScriptReload: Sendable {
    let plan: LoadedScript.Plan
    /// For the new rules, made for all queues.
    let counters: RuleCounters
    let logFD: Int32
}

/// The side of a queue that other threads see: a switch, a letter box, and its counters.
///
/// Any thread.
final class QueueControl: Sendable {
    /// Faults happen only while this is set.
    ///
    /// It is not until START_DEV has returned, so that a partition scan cannot hang.
    let armed = Atomic<Bool>(false)
    let counters = QueueCounters()
    let times = IOTimes()
    let ledger: Ledger
    /// Watches the queue's script; nil: nobody does.
    let watchdog: Watchdog?
    /// A handler raised and `on_error` is `"stop"`: the main thread is to stop the device.
    let wantsStop = Atomic<Bool>(false)
    private let newest = Mutex<Letter?>(nil)
    private let ring: @Sendable () -> Void

    /// - Parameter ring: wakes the queue's thread out of its wait.
    init(
        ledger: Ledger = Ledger(queue: QueueID(0)),
        watchdog: Watchdog? = nil,
        ring: @escaping @Sendable () -> Void
    ) {
        self.ledger = ledger
        self.watchdog = watchdog
        self.ring = ring
    }

    /// Faults happen from now on; the queue's timers start.
    func arm() {
        armed.store(true, ordering: .relaxed)
        ring()
    }

    /// A message that waits, with the ones before it.
    private final class Letter: Sendable {
        let message: QueueMessage
        let earlier: Letter?
        init(_ message: QueueMessage, after earlier: Letter?) {
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
            let letter = Letter(message, after: expected)
            earlier = newest.withLock { newest in
                let seen = newest
                if seen === expected { newest = letter }
                return seen
            }
            if earlier === expected { return ring() }
        }
    }

    /// The queue's thread, when it was woken.
    ///
    /// - Returns: what was sent since the last time, in that order.
    func takeMessages() -> [QueueMessage] {
        var letter = newest.withLock { newest in
            defer { newest = nil }
            return newest
        }
        var messages: [QueueMessage] = []
        while let current = letter {
            messages.append(current.message)
            letter = current.earlier
        }
        return messages.reversed()
    }
}
