import CUring
import Glibc
import Synchronization
import Testing

@testable import UblkScript

/// Signals in the middle of a wait: the watchdog sends them to queue threads.
@Suite(.serialized, .enabled(if: TestHost.hasUring, "io_uring cannot be used here"))
struct RingSignalTests {
    /// Runs `body` while another thread sends SIGUSR2, which does nothing, to the calling one, up to so many times and
    /// each time when it is asleep; and `last` after the last one.
    private func signalled(
        times: Int,
        last: @escaping @Sendable () -> Void = {},
        _ body: () -> Void
    ) {
        // With SA_RESTART, as the watchdog's handler has it. Dispatch's threads block all signals.
        signal(SIGUSR2) { _ in }
        var mask = sigset_t()
        var before = sigset_t()
        unsafe sigemptyset(&mask)
        unsafe sigaddset(&mask, SIGUSR2)
        unsafe pthread_sigmask(SIG_UNBLOCK, &mask, &before)
        let target = pthread_self()
        let state = TestHost.ownState
        let over = Flag()
        let sender = OSThread(name: "test-signals") {
            for _ in 0..<times {
                while !over.isSet, !TestHost.isAsleep(state) { sched_yield() }
                if over.isSet { return }
                pthread_kill(target, SIGUSR2)
            }
            last()
        }
        body()
        over.set()
        sender.join()
        unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    }

    private final class Flag: Sendable {
        private let value = Atomic(false)
        var isSet: Bool { value.load(ordering: .acquiring) }
        func set() { value.store(true, ordering: .releasing) }
    }

    private func milliseconds(_ body: () -> Void) -> Double {
        let start = SystemCall.monotonicNanoseconds
        body()
        return Double(SystemCall.monotonicNanoseconds - start) / 1e6
    }

    @Test func `a signal does not end a wait that has a deadline`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        signalled(times: 1) {
            let waited = milliseconds { ring.wait(timeoutNanoseconds: 100_000_000) }
            #expect(waited >= 100)
        }
    }

    @Test func `signals do not put a deadline off`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        signalled(times: .max) {
            let waited = milliseconds { ring.wait(timeoutNanoseconds: 100_000_000) }
            #expect(waited >= 100)
            #expect(waited < 800, "the time-out began anew with each signal")
        }
    }

    @Test(arguments: [nil, 2_000_000_000 as UInt64])
    func `a signal neither ends a wait with something queued nor queues it twice`(limit: UInt64?)
        throws
    {
        var ring = try Ring(entries: 4, style: .queue)
        let event = try SystemCall.makeEventFD()
        defer { close(event) }
        let value = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
        defer { unsafe value.deallocate() }
        let sqe = unsafe ring.submission()
        unsafe io_uring_prep_read(sqe, event, value, 8, 0)
        unsafe sqe.pointee.user_data = UserData(.wakeup).rawValue
        let ringEvent: @Sendable () -> Void = {
            var one: UInt64 = 1
            _ = unsafe write(event, &one, 8)
        }
        var seen = 0
        signalled(times: 3, last: ringEvent) {
            ring.wait(timeoutNanoseconds: limit)
            while ring.nextCompletion() != nil { seen += 1 }
        }
        #expect(seen == 1, "a signal ended the wait")
        // A read that was queued twice would take this.
        ringEvent()
        ring.wait(timeoutNanoseconds: 100_000_000)
        while ring.nextCompletion() != nil { seen += 1 }
        #expect(seen == 1)
    }
}
