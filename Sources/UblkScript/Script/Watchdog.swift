import CLua
import Glibc
import Synchronization

/// Stops handlers that run over their time budget.
///
/// One thread looks at each script's sequence number a few times per budget: the same odd number
/// all along means the same run is still going on. It is then interrupted by a signal to its thread
/// (`us_script_interrupt`), which costs a running script nothing until it happens. What counts is
/// the thread's CPU time, and no more than was seen: neither a busy machine nor one that stood
/// still as a whole is blamed on a script.
@safe
final class Watchdog: Sendable {
    /// A run that the interrupt could not stop (stuck in a C library function) for this long ends
    /// the process.
    static let stuckNanoseconds: UInt64 = 5_000_000_000

    private struct Entry {
        /// Address of the C state.
        ///
        /// It removes itself before it is freed.
        let script: UInt
        var sequence: UInt64 = 0
        /// CPU time of its thread when this run was first seen.
        var startedAtCPU: UInt64 = 0
        var heldNanoseconds: UInt64 = 0
    }

    // Safety: entries hold addresses of scripts, which remove themselves before they are freed;
    // both happen under the lock that a look takes.
    private let entries = Mutex<[Entry]>([])
    private let isStopped = Atomic<Bool>(false)
    private let budget: Atomic<UInt64>
    private let onStuck: @Sendable () -> Void

    /// - Parameter onStuck: called on the watchdog's thread when nothing else helps; expected not
    ///   to return.
    init(budgetNanoseconds: UInt64, onStuck: @escaping @Sendable () -> Void) {
        budget = Atomic(budgetNanoseconds)
        self.onStuck = onStuck
    }

    private var budgetNanoseconds: UInt64 { budget.load(ordering: .relaxed) }

    /// For every run from now on.
    func setBudget(nanoseconds: UInt64) { budget.store(nanoseconds, ordering: .relaxed) }

    private var tickNanoseconds: UInt64 { min(max(budgetNanoseconds / 5, 1_000_000), 10_000_000) }

    /// Watches the script from now on.
    ///
    /// Call on the thread that runs it.
    func add(_ script: borrowing Script) {
        unsafe us_script_bind_thread(script.handle)
        let entry = unsafe Entry(script: UInt(bitPattern: script.handle))
        entries.withLock { $0.append(entry) }
    }

    /// Call before the script is freed.
    func remove(_ script: borrowing Script) {
        let address = unsafe UInt(bitPattern: script.handle)
        entries.withLock { $0.removeAll { $0.script == address } }
    }

    func stop() { isStopped.store(true, ordering: .relaxed) }

    /// The watchdog's thread: looks until ``stop()``.
    func run() {
        while !isStopped.load(ordering: .relaxed) {
            let tick = tickNanoseconds
            usleep(UInt32(tick / 1000))
            entries.withLock { entries in
                for index in entries.indices { look(&entries[index], tick) }
            }
        }
    }

    private func look(_ entry: inout Entry, _ tick: UInt64) {
        guard let script = unsafe OpaquePointer(bitPattern: entry.script) else { return }
        let sequence = unsafe us_script_sequence(script)
        guard sequence % 2 == 1 else {
            entry.sequence = sequence
            return
        }
        let cpu = unsafe us_script_cpu_ns(script)
        guard sequence == entry.sequence else {
            entry.sequence = sequence
            entry.startedAtCPU = cpu
            entry.heldNanoseconds = 0
            return
        }
        entry.heldNanoseconds += tick
        let used = min(entry.heldNanoseconds, cpu - min(cpu, entry.startedAtCPU))
        if used >= budgetNanoseconds { unsafe us_script_interrupt(script, sequence) }
        if used >= Self.stuckNanoseconds { onStuck() }
    }
}
