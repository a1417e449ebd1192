import CLua
import Glibc
import Synchronization

/// Interrupts runs of scripts (handlers, `ctl`, timers) that exceed their CPU time budget.
///
/// Owned by the server; one thread polls each script's sequence number several times per budget. The same odd number
/// as before means that the same run goes on. Then a signal asks the script's thread for a sign of life
/// (`us_script_ask`), and the time that the run is known to have worked (``WatchedRun``) is compared with the budget. A
/// run that ends in time costs nothing.
@safe
final class Watchdog: Sendable {
    /// A run that is not interrupted for this long, because it is stuck in a C library function, ends the process.
    static let stuckNanoseconds: UInt64 = 5_000_000_000

    private struct Entry {
        /// Address of the C state, which removes itself before it is freed.
        let script: UInt
        var run = WatchedRun()
    }

    // Safety: entries have addresses of scripts, which are removed before they are freed, under the lock that polling
    // takes.
    private let entries = Mutex<[Entry]>([])
    private let isStopped = Atomic<Bool>(false)
    private let budget: Atomic<UInt64>
    private let stuckNanoseconds: UInt64
    private let onStuck: @Sendable () -> Void

    /// - Parameters:
    ///   - budgetNanoseconds: CPU time that a run may use.
    ///   - onStuck: called on the watchdog's thread when a run cannot be interrupted; expected not to return.
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

    /// Changes the budget of all runs from now on; any thread.
    func setBudget(nanoseconds: UInt64) { budget.store(nanoseconds, ordering: .relaxed) }

    private var tickNanoseconds: UInt64 { min(max(budgetNanoseconds / 5, 1_000_000), 10_000_000) }

    /// Watches the script from now on; call on the thread that runs it.
    func add(_ script: borrowing Script) {
        unsafe us_script_bind_thread(script.handle)
        let entry = unsafe Entry(script: UInt(bitPattern: script.handle))
        entries.withLock { $0.append(entry) }
    }

    /// Ends watching the script; call before it is freed.
    func remove(_ script: borrowing Script) {
        let address = unsafe UInt(bitPattern: script.handle)
        entries.withLock { $0.removeAll { $0.script == address } }
    }

    /// Ends ``run()``; any thread.
    func stop() { isStopped.store(true, ordering: .relaxed) }

    /// The body of the watchdog's thread: polls until ``stop()``.
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
        // Beyond the budget and the allowance, so that a run which is being interrupted does not count as stuck.
        if used >= stuckNanoseconds + 2 * budget { onStuck() }
    }
}

/// What the watchdog knows of one run of a script, from one poll to the next.
///
/// A run is charged only for time in which it was seen to work: at most a tick for each answer to the signal, which its
/// thread can give only while it executes, and never more than its thread's CPU time. So a script is not blamed for a
/// busy machine, for a machine that stands still, or for a virtual CPU that its host stops while the other CPUs and all
/// clocks go on.
struct WatchedRun {
    struct Look {
        /// Number of the run; odd while the script runs.
        let sequence: UInt64
        /// CPU time of the script's thread.
        let cpuNanoseconds: UInt64
        /// Number of signals that the script's thread has answered.
        let answers: UInt32
    }

    private var sequence: UInt64 = 0
    /// CPU time of the thread when this run was first seen.
    private var startedAtCPU: UInt64 = 0
    /// Ticks in which the run answered, added up.
    private var heldNanoseconds: UInt64 = 0
    private var answers: UInt32 = 0
    private var isAsked = false

    /// Takes the result of a poll.
    ///
    /// - Parameter tickNanoseconds: the time between two polls, if nothing stood still.
    /// - Returns: the time that the run is known to have worked; nil when nothing runs, the run is new, or it has not
    ///   answered yet.
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
        // The first signal was sent a tick after the run was first seen.
        heldNanoseconds += heldNanoseconds == 0 ? 2 * tick : tick
        return min(heldNanoseconds, look.cpuNanoseconds - min(look.cpuNanoseconds, startedAtCPU))
    }

    /// Notes that a signal has been sent.
    mutating func wasAsked() { isAsked = true }
}
