import Synchronization

/// Somebody who looks at a simulation while it runs, from a thread of its own.
final class Observation: Sendable {
    private let isOver = Atomic<Bool>(false)

    init(
        _ observer: @escaping @Sendable (UInt64) -> Bool,
        _ controls: [QueueControl],
        _ log: SimulationLog
    ) {
        // Nobody waits for the thread: what it looks at lives as long as it does.
        _ = OSThread(name: "sim-observer") { [self] in
            while !isOver.load(ordering: .relaxed) {
                let total = controls.reduce(0) { $0 + $1.counters.total }
                if observer(total) { log.interrupt() }
            }
        }
    }

    func end() { isOver.store(true, ordering: .relaxed) }
}
