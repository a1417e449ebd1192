import CLua
import Glibc
import Synchronization
import Testing

@testable import UblkScript

/// A machine that stands still, as a whole or one virtual CPU of it, is not blamed on what happened to run there.
///
/// One after the other: they measure.
@Suite(.serialized) struct StandstillTests {
    private static let endless = "function read() while true do end end"

    private func milliseconds(_ body: () -> Void) -> Double {
        let start = SystemCall.monotonicNanoseconds
        body()
        return Double(SystemCall.monotonicNanoseconds - start) / 1e6
    }

    /// Counts over threads.
    private final class StopCount: Sendable {
        private let count = Atomic<Int>(0)
        func add() { count.wrappingAdd(1, ordering: .relaxed) }
        var value: Int { count.load(ordering: .relaxed) }
    }

    /// Runs `body` and, 3 ms after its begin, makes its thread burn CPU time below everything else.
    ///
    /// That is what a guest sees of a virtual CPU that the host stops: its clocks go on, and nothing of the thread's.
    private func stoppedBelow<R>(milliseconds: UInt64, _ body: () -> R) -> R {
        Self.burn.store(milliseconds * 1_000_000, ordering: .relaxed)
        var action = sigaction()
        unsafe action.__sigaction_handler.sa_handler = { _ in
            let end =
                SystemCall.threadCPUNanoseconds + StandstillTests.burn.load(ordering: .relaxed)
            while SystemCall.threadCPUNanoseconds < end {}
        }
        unsafe sigfillset(&action.sa_mask)
        unsafe sigaction(SIGUSR2, &action, nil)
        var mask = sigset_t()
        var before = sigset_t()
        unsafe sigemptyset(&mask)
        unsafe sigaddset(&mask, SIGUSR2)
        unsafe pthread_sigmask(SIG_UNBLOCK, &mask, &before)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        let target = pthread_self()
        var threads = ThreadList()
        threads.start("test-signals") {
            TestHost.sleep(milliseconds: 3)
            pthread_kill(target, SIGUSR2)
        }
        let result = body()
        threads.joinAll()
        return result
    }
    private static let burn = Atomic<UInt64>(0)

    private static let short =
        "function read() local n = 0 for i = 1, 3000000 do n = n + i end return fail(\"EIO\") end"

    @Test(arguments: [100, 400, 2000] as [UInt64])
    func `a handler whose CPU stands still is not blamed`(milliseconds: UInt64) throws {
        let harness = try ScriptHarness(Self.short)
        harness.watched(budgetNanoseconds: 50_000_000) {
            let outcome = stoppedBelow(milliseconds: milliseconds) { harness.outcome() }
            #expect(outcome == .success(.fail("EIO")), "it ran for a few milliseconds only")
        }
    }

    @Test func `a short handler that is called late by force ends as it meant`() throws {
        // Asked as if its time was over, again and again: it has an allowance, and does not use it up.
        let harness = try ScriptHarness(Self.short)
        unsafe us_script_bind_thread(harness.script.handle)
        nonisolated(unsafe) let handle = unsafe harness.script.handle
        let isOver = Atomic<Bool>(false)
        withThread {
            while !isOver.load(ordering: .relaxed) {
                let sequence = unsafe us_script_sequence(handle)
                _ = unsafe us_script_ask(handle, sequence, 1_000_000, 5_000_000_000)
                TestHost.sleep(milliseconds: 1)
            }
        } while: {
            for _ in 0..<5 { #expect(harness.outcome() == .success(.fail("EIO"))) }
            #expect(unsafe us_script_answers(harness.script.handle) > 0)
            isOver.store(true, ordering: .relaxed)
        }
    }

    @Test func `a late run that goes on is stopped once it has used its allowance`() throws {
        let harness = try ScriptHarness(Self.endless)
        unsafe us_script_bind_thread(harness.script.handle)
        nonisolated(unsafe) let handle = unsafe harness.script.handle
        withThread {
            while unsafe us_script_sequence(handle) % 2 == 0 { TestHost.sleep(milliseconds: 1) }
            _ = unsafe us_script_ask(handle, us_script_sequence(handle), 1_000_000, 30_000_000)
        } while: {
            let start = SystemCall.threadCPUNanoseconds
            guard case .failure(let error) = harness.outcome() else {
                Issue.record("it was not stopped")
                return
            }
            #expect(error.status == .budget)
            #expect(SystemCall.threadCPUNanoseconds - start >= 30_000_000)
        }
    }

    private func withThread(_ other: @escaping @Sendable () -> Void, while body: () -> Void) {
        var threads = ThreadList()
        threads.start("test-other") { other() }
        defer { threads.joinAll() }
        body()
    }

    @Test func `a load phase whose CPU stands still is not blamed, one that loops is`() throws {
        let options = Script.Options(loadLimitNanoseconds: 500_000_000)
        let text = "local n = 0 for i = 1, 3000000 do n = n + i end"
        let problem = stoppedBelow(milliseconds: 2000) { loadError(text, options: options) }
        #expect(problem == nil)
        let start = SystemCall.threadCPUNanoseconds
        let endless = loadError("while true do end", options: options)
        #expect(endless?.status == .budget)
        #expect(SystemCall.threadCPUNanoseconds - start < 1_500_000_000)
    }

    @Test func `ctl and timers whose CPU stands still are not blamed`() throws {
        let harness = try ScriptHarness(
            "local function work() local n = 0 for i = 1, 3000000 do n = n + i end return n end\n"
                + "function ctl() return work() > 0 end after(1, work)"
        )
        try harness.watched(budgetNanoseconds: 50_000_000) {
            #expect(
                try stoppedBelow(milliseconds: 400) { Result { try harness.ctl() } }.get() == "true"
            )
            try stoppedBelow(milliseconds: 400) {
                Result { try harness.script.runTimer(now: Instant(nanoseconds: 10)) }
            }.get()
        }
    }

    @Test func `a thread that stands still is not stuck, one that works in C is`() throws {
        // A pattern that tries the fifth power of the text's length.
        let harness = try ScriptHarness(
            "function read(io, n) (\"a\"):rep(n):find(\"a*a*a*a*b\") return fail(\"EIO\") end"
        )
        var length: UInt64 = 50
        var took = 0.0
        while took < 200 {
            length += length / 4
            took = milliseconds { _ = harness.outcome(offset: length) }
        }
        length = UInt64((Double(length) * pow(3000 / took, 0.2)).rounded())
        let count = StopCount()
        let watchdog = Watchdog(budgetNanoseconds: 20_000_000, stuckNanoseconds: 300_000_000) {
            count.add()
        }
        watchdog.add(harness.script)
        var threads = ThreadList()
        threads.start("test-watchdog") { watchdog.run() }
        _ = stoppedBelow(milliseconds: 1000) { harness.outcome(offset: 50) }
        #expect(count.value == 0, "it stood still")
        _ = harness.outcome(offset: length)
        #expect(count.value > 0, "it was in one pattern of length \(length)")
        watchdog.remove(harness.script)
        watchdog.stop()
        threads.joinAll()
    }

    // MARK: What is known of a run

    /// What a run is known to have worked after looks at 10 ms intervals.
    private func worked(_ looks: [(cpu: UInt64, answers: UInt32)]) -> UInt64 {
        var run = WatchedRun()
        var worked: UInt64 = 0
        for look in looks {
            let look = WatchedRun.Look(
                sequence: 7,
                cpuNanoseconds: look.cpu * 1_000_000,
                answers: look.answers
            )
            guard let known = run.work(look, tickNanoseconds: 10_000_000) else { continue }
            worked = known
            run.wasAsked()
        }
        return worked / 1_000_000
    }

    @Test func `a run is known to have worked while it answers, and no longer than its thread did`()
    {
        let steady = (0..<20).map { (cpu: UInt64($0) * 10, answers: UInt32(max(0, $0 - 1))) }
        #expect(worked(steady) == 190)
        // Its virtual CPU is stopped: clocks go on, no answer comes.
        #expect(worked(steady.map { (cpu: $0.cpu, answers: 0) }) == 0)
        #expect(worked(steady.map { (cpu: $0.cpu, answers: $0.cpu < 150 ? 0 : 1) }) == 20)
        // Its thread gets a tenth of a busy CPU: answers come, CPU time does not.
        #expect(worked(steady.map { (cpu: $0.cpu / 10, answers: $0.answers) }) == 19)
    }

    @Test func `a meter takes no more of an interval than a tenth, or what is known`() {
        var meter = us_meter_start(1000, 50)
        #expect(unsafe !us_meter_look(&meter, 90, 0) && meter.used == 40)
        #expect(unsafe !us_meter_look(&meter, 5_000_000, 0) && meter.used == 140)
        #expect(unsafe !us_meter_look(&meter, 6_000_000, 300) && meter.used == 540)
        #expect(
            unsafe !us_meter_look(&meter, 5_999_000, 0) && meter.used == 540,
            "a clock that steps back"
        )
        #expect(unsafe us_meter_look(&meter, 7_000_000, 1_000_000))
    }

    @Test func `one limit for several promises is waited for once`() {
        let never = [Promise<Int>(), Promise<Int>(), Promise<Int>()]
        let kept = Promise<Int>()
        kept.fulfil(5)
        var limit = TimeLimit(seconds: 0.3)
        let waited = milliseconds {
            for promise in never { #expect(promise.wait(until: &limit) == nil) }
            #expect(kept.wait(until: &limit) == 5, "it was there all along")
        }
        #expect(waited >= 200 && waited < 800, "\(waited)")
    }
}
