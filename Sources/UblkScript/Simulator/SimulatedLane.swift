/// One queue of a simulated device.
///
/// A class, because a queue cannot be copied and a device has several. Belongs to the device's thread.
final class SimulatedLane {
    let number: QueueID
    let control: QueueControl
    /// The steps of its requests; nil: they are not traced.
    let trace: TraceRing?
    /// Its transport belongs to it.
    var queue: Queue<SimulatedTransport>

    init(
        number: QueueID,
        control: QueueControl,
        trace: TraceRing?,
        queue: consuming Queue<SimulatedTransport>
    ) {
        self.number = number
        self.control = control
        self.trace = trace
        self.queue = queue
    }

    var ledger: Ledger { control.ledger }

    /// When a turn would do something; nil: never by itself.
    var nextTurn: Instant? { queue.transport.endOfWait(until: queue.nextDeadline) }

    /// One wait and what it brought; what was committed is the driver's at once, as the queue goes on to its next wait.
    ///
    /// What the driver answers at once the queue has in its next wait, before any other thread gets to run: so a data
    /// mode in which there are such answers leaves the order of the queues as it is.
    func turn() {
        repeat {
            queue.turn()
            queue.transport.takeCommits()
        } while queue.transport.hasAnswers
        // As it is while it waits: what the others replace needs not be kept for it.
        queue.shared.offline(number)
    }
}
