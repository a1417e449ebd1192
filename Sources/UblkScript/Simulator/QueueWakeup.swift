import Synchronization

/// The wakeup of a simulated queue: in place of the eventfd and the STOP_DEV of a real device.
///
/// Any thread.
final class QueueWakeup: Sendable {
    private let isSignalled = Atomic<Bool>(false)
    private let isStopped = Atomic<Bool>(false)

    /// Wakes the queue, which has a message.
    func signal() { isSignalled.store(true, ordering: .relaxed) }

    /// Asks for the end of the device: no further request arrives.
    func stop() { isStopped.store(true, ordering: .relaxed) }

    /// - Returns: true once per ``signal()``.
    func take() -> Bool { isSignalled.exchange(false, ordering: .relaxed) }

    /// The next ``take()`` is true.
    var isPending: Bool { isSignalled.load(ordering: .relaxed) }

    var wantsStop: Bool { isStopped.load(ordering: .relaxed) }
}
