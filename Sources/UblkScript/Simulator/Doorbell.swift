import Synchronization

/// The wakeup of a simulated queue: in place of the eventfd and the STOP_DEV of a real device.
///
/// Any thread.
final class Doorbell: Sendable {
    private let isRinging = Atomic<Bool>(false)
    private let isStopped = Atomic<Bool>(false)

    /// Wakes the queue, which has a message.
    func ring() { isRinging.store(true, ordering: .relaxed) }

    /// Asks for the end of the device: no further request arrives.
    func stop() { isStopped.store(true, ordering: .relaxed) }

    /// - Returns: true once per ``ring()``.
    func answered() -> Bool { isRinging.exchange(false, ordering: .relaxed) }

    /// The next ``answered()`` is true.
    var isRung: Bool { isRinging.load(ordering: .relaxed) }

    var wantsStop: Bool { isStopped.load(ordering: .relaxed) }
}
