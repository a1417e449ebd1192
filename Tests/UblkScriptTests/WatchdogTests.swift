import CLua
import Glibc
import Synchronization
import Testing

@testable import UblkScript

/// The watchdog on real threads and real time.
///
/// One after the other: they measure.
@Suite(.serialized) struct WatchdogTests {
    private static let endless =
        "function read() while true do end end\nfunction write() return fail(\"EIO\") end"

    /// A handler that computes for that many milliseconds of wall time, as the script's own clock cannot tell.
    private func milliseconds(_ body: () -> Void) -> Double {
        let start = SystemCall.monotonicNanoseconds
        body()
        return Double(SystemCall.monotonicNanoseconds - start) / 1e6
    }

    @Test(arguments: [5, 50] as [UInt64])
    func `a handler over its budget is interrupted in about its budget`(budget: UInt64) throws {
        let harness = try ScriptHarness(Self.endless)
        var best = Double.infinity
        harness.watched(budgetNanoseconds: budget * 1_000_000) {
            for _ in 0..<5 {
                var status: ScriptError.Status?
                // CPU time, which is what a budget is of: the machine may have other things to do.
                let start = SystemCall.threadCPUNanoseconds
                if case .failure(let error) = harness.outcome() { status = error.status }
                let used = Double(SystemCall.threadCPUNanoseconds - start) / 1e6
                #expect(status == .budget)
                #expect(used >= Double(budget), "never before its time")
                best = min(best, used)
            }
        }
        // The best of five, as the watchdog's thread may get its turn late.
        #expect(best < Double(budget) * 2 + 20)
    }

    @Test func `handlers under the budget are never interrupted, however many there are`() throws {
        let harness = try ScriptHarness(
            "function read() local n = 0 for i = 1, 20000 do n = n + i end return delay(n) end"
        )
        let end = SystemCall.monotonicNanoseconds + 300_000_000
        var runs = 0
        harness.watched(budgetNanoseconds: 1_000_000_000) {
            while SystemCall.monotonicNanoseconds < end {
                #expect(harness.outcome() == .success(Verdict(delay: 200_010_000)))
                runs += 1
            }
        }
        #expect(runs > 10)
    }

    @Test func `a thread that gets no CPU is not blamed`() throws {
        let harness = try ScriptHarness(
            """
            function read()
              local n = 0 for i = 1, 3000000 do n = n + i end
              return fail("EIO")
            end
            """
        )
        // Stands for a busy machine: the thread sleeps in the middle of the handler.
        signal(SIGUSR1) { _ in usleep(400_000) }
        var mask = sigset_t()
        var before = sigset_t()
        unsafe sigemptyset(&mask)
        unsafe sigaddset(&mask, SIGUSR1)
        unsafe pthread_sigmask(SIG_UNBLOCK, &mask, &before)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        let target = pthread_self()
        harness.watched(budgetNanoseconds: 200_000_000) {
            var threads = ThreadList()
            threads.start("test-signals") {
                TestHost.sleep(milliseconds: 3)
                pthread_kill(target, SIGUSR1)
            }
            let outcome = harness.outcome()
            threads.joinAll()
            #expect(outcome == .success(.fail("EIO")), "it ran for a few milliseconds only")
        }
    }

    @Test func `runs in quick succession are not taken for one`() throws {
        // Together far over the budget, each far below it; and one that is killed between them.
        let harness = try ScriptHarness(Self.endless)
        harness.watched(budgetNanoseconds: 10_000_000) {
            for _ in 0..<5 {
                guard case .failure = harness.outcome() else {
                    Issue.record("it was not stopped")
                    return
                }
                let end = SystemCall.monotonicNanoseconds + 50_000_000
                while SystemCall.monotonicNanoseconds < end {
                    #expect(harness.outcome(.write) == .success(.fail("EIO")))
                }
            }
        }
    }

    @Test func `ctl is watched too`() throws {
        let harness = try ScriptHarness(
            "function ctl(word) while word == \"loop\" do end return word end"
        )
        harness.watched {
            #expect { try harness.ctl("loop") } throws: { error in
                (error as? ScriptError)?.status == .budget
            }
            let fine = try? harness.ctl("fine")
            #expect(fine == "fine")
        }
    }

    @Test func `two scripts on two threads are stopped each by itself`() throws {
        let watchdog = Watchdog(budgetNanoseconds: 20_000_000) {}
        var threads = ThreadList()
        threads.start("test-watchdog") { watchdog.run() }
        let count = StopCount()
        var queues = ThreadList()
        for _ in 0..<2 {
            queues.start("test-queue") {
                guard let harness = try? ScriptHarness(Self.endless) else { return }
                watchdog.add(harness.script)
                for _ in 0..<3 {
                    if case .failure(let error) = harness.outcome(), error.status == .budget {
                        count.add()
                    }
                }
                watchdog.remove(harness.script)
            }
        }
        queues.joinAll()
        watchdog.stop()
        threads.joinAll()
        #expect(count.value == 6)
    }

    /// Counts over threads.
    private final class StopCount: Sendable {
        private let count = Atomic<Int>(0)
        func add() { count.wrappingAdd(1, ordering: .relaxed) }
        var value: Int { count.load(ordering: .relaxed) }
    }

    @Test func `a script that was removed is not looked at any more`() throws {
        // It runs three budgets long and ends by itself: interrupted, it would not give its verdict.
        let harness = try ScriptHarness(
            """
            local set = ranges()
            function read() local n = 0 for i = 1, 3000000 do n = n + i end return fail("EIO") end
            """
        )
        let watchdog = Watchdog(budgetNanoseconds: 2_000_000) {}
        watchdog.add(harness.script)
        watchdog.remove(harness.script)
        var threads = ThreadList()
        threads.start("test-watchdog") { watchdog.run() }
        let waited = milliseconds { #expect(harness.outcome() == .success(.fail("EIO"))) }
        #expect(waited > 6, "long enough to have been noticed")
        watchdog.stop()
        threads.joinAll()
    }

    @Test func `stop ends the watchdog's thread soon`() {
        let watchdog = Watchdog(budgetNanoseconds: 5_000_000_000) {}
        var threads = ThreadList()
        threads.start("test-watchdog") { watchdog.run() }
        let waited = milliseconds {
            watchdog.stop()
            threads.joinAll()
        }
        #expect(waited < 1000)
    }

    @Test func `an interrupt that comes too late stops nobody`() throws {
        let harness = try ScriptHarness(Self.endless)
        unsafe us_script_bind_thread(harness.script.handle)
        let before = unsafe us_script_sequence(harness.script.handle)
        _ = try harness.decide(.write)
        let after = unsafe us_script_sequence(harness.script.handle)
        #expect(before % 2 == 0)
        #expect(after == before + 2)
        // The run that has just ended, the one before, and one that has not begun.
        for sequence in [before + 1, before, after, after + 1] {
            _ = unsafe us_script_ask(harness.script.handle, sequence, 1, 1)
            #expect(harness.outcome(.write) == .success(.fail("EIO")))
        }
    }

    @Test(
        .enabled(if: TestHost.runsSlowTests, "takes half a minute of a CPU: UBLK_TEST_SLOW=1"),
        .timeLimit(.minutes(5))
    )
    func `a handler that is stuck in C for five seconds is reported`() throws {
        // A pattern that tries the fifth power of the text's length; calibrated to half a minute: the
        // watchdog counts its looks, which come late on a busy machine.
        let harness = try ScriptHarness(
            "function read(io, n) (\"a\"):rep(n):find(\"a*a*a*a*b\") return fail(\"EIO\") end"
        )
        var length: UInt64 = 50
        var took = 0.0
        while took < 100 {
            length += length / 4
            took = milliseconds { _ = harness.outcome(offset: length) }
        }
        length = UInt64((Double(length) * pow(30_000 / took, 0.2)).rounded())
        let count = StopCount()
        let watchdog = Watchdog(budgetNanoseconds: 20_000_000) { count.add() }
        watchdog.add(harness.script)
        var threads = ThreadList()
        threads.start("test-watchdog") { watchdog.run() }
        let waited = milliseconds { _ = harness.outcome(offset: length) }
        watchdog.remove(harness.script)
        watchdog.stop()
        threads.joinAll()
        #expect(waited > 5000, "length \(length)")
        #expect(count.value > 0)
    }
}
