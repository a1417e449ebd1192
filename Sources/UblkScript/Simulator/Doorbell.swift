import Synchronization

/// How the outside reaches a simulated queue: the eventfd and the STOP_DEV of a real device.
///
/// Any thread.
final class Doorbell: Sendable {
    private let isRung = Atomic<Bool>(false)
    private let isStopped = Atomic<Bool>(false)

    /// There is a message for the queue.
    func ring() { isRung.store(true, ordering: .relaxed) }

    /// The device is to go: no request comes any more.
    func stop() { isStopped.store(true, ordering: .relaxed) }

    /// True once per ring.
    func answered() -> Bool { isRung.exchange(false, ordering: .relaxed) }

    var wantsStop: Bool { isStopped.load(ordering: .relaxed) }
}
