import CUring
import Glibc
import Synchronization

/// An answer from another thread, with a time limit for the thread that waits.
///
/// Never on the IO path.
@safe
final class Promise<Value: Sendable>: Sendable {
    // Safety: made in init, destroyed in deinit; sem_post and sem_timedwait may race by design.
    private nonisolated(unsafe) let semaphore: UnsafeMutablePointer<sem_t>
    private let value = Mutex<Value?>(nil)

    init() {
        unsafe semaphore = .allocate(capacity: 1)
        unsafe sem_init(semaphore, 0, 0)
    }

    deinit {
        unsafe sem_destroy(semaphore)
        unsafe semaphore.deallocate()
    }

    func fulfil(_ value: Value) {
        self.value.withLock { $0 = value }
        unsafe sem_post(semaphore)
    }

    /// Waits for the answer; nil when there is none in time, where a standstill of the machine does not count.
    func wait(seconds: Double) -> Value? {
        var limit = TimeLimit(seconds: seconds)
        return wait(until: &limit)
    }

    /// Waits for the answer; nil when there is none before the limit, which several promises may share.
    func wait(until limit: inout TimeLimit) -> Value? {
        while unsafe !sys_semaphore_wait(semaphore, limit.nextLookNanoseconds) {
            guard !limit.isOver() else { return nil }
        }
        return value.withLock { $0 }
    }
}
