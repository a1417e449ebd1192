import CLua
import Glibc
import Synchronization

/// Stops handlers that run over their time budget.
///
/// One thread looks at each script's sequence number a few times per budget: the same odd number
/// all along means the same run is still going on. It is then asked for a sign of life by a signal to its thread
/// (`us_script_ask`), which costs a running script nothing until it happens, and what it was seen to work
/// (``WatchedRun``) is compared with the budget.
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
        var run = WatchedRun()
    }

    // Safety: entries hold addresses of scripts, which remove themselves before they are freed;
    // both happen under the lock that a look takes.
    private let entries = Mutex<[Entry]>([])
    private let isStopped = Atomic<Bool>(false)
    private let budget: Atomic<UInt64>
    private let stuckNanoseconds: UInt64
    private let onStuck: @Sendable () -> Void

    /// - Parameter onStuck: called on the watchdog's thread when nothing else helps; expected not
    ///   to return.
    init(
        budgetNanoseconds: UInt64,
        stuckNanoseconds: UInt64 = Watchdog.stuckNanoseconds,
        onStuck: @escaping @Sendable () -> Void
    ) {
        budget = Atomic(budgetNanoseconds)
        self.stuckNanoseconds = stuckNanoseconds
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
        let look = unsafe WatchedRun.Look(
            sequence: sequence,
            cpuNanoseconds: sequence % 2 == 1 ? us_script_cpu_ns(script) : 0,
            answers: us_script_answers(script)
        )
        guard let used = entry.run.work(look, tickNanoseconds: tick) else { return }
        let budget = budgetNanoseconds
        let allowance = used >= budget ? max(budget / 2, 1) : 0
        if unsafe us_script_ask(script, sequence, tick, allowance) { entry.run.wasAsked() }
        // What the script allows itself, and the allowance, are no sign of being stuck.
        if used >= stuckNanoseconds + 2 * budget { onStuck() }
    }
}

/// What is known of one run of a script, from one look of the watchdog to the next.
///
/// A run is blamed for no more than it was seen to work. What counts is the time between its answers, each a
/// moment at which its thread executed something, at most a tick each; and no more than its thread's CPU time. So
/// neither a busy machine is blamed on a script, nor one that stands still as a whole, nor a virtual CPU
/// that its host stops while the others, and all clocks, go on.
struct WatchedRun {
    struct Look {
        /// Odd: a script runs.
        let sequence: UInt64
        /// CPU time of the script's thread.
        let cpuNanoseconds: UInt64
        let answers: UInt32
    }

    private var sequence: UInt64 = 0
    /// CPU time of its thread when this run was first seen.
    private var startedAtCPU: UInt64 = 0
    private var heldNanoseconds: UInt64 = 0
    private var answers: UInt32 = 0
    private var isAsked = false

    /// - Parameter tickNanoseconds: the time between two looks, if nothing stood still.
    /// - Returns: what the run is known to have worked, when there is one to ask; nil: none, or it was not seen
    ///   before, or has not answered yet.
    mutating func work(_ look: Look, tickNanoseconds tick: UInt64) -> UInt64? {
        guard look.sequence == sequence, sequence % 2 == 1 else {
            self = WatchedRun()
            sequence = look.sequence
            startedAtCPU = look.cpuNanoseconds
            return nil
        }
        defer { answers = look.answers }
        guard isAsked else { return 0 }
        guard look.answers != answers else { return nil }
        isAsked = false
        // The first question came a tick after the run was seen.
        heldNanoseconds += heldNanoseconds == 0 ? 2 * tick : tick
        return min(heldNanoseconds, look.cpuNanoseconds - min(look.cpuNanoseconds, startedAtCPU))
    }

    /// The question is under way.
    mutating func wasAsked() { isAsked = true }
}
