import CUring
import Glibc
import Synchronization

/// One answer from another thread, with a time limit for the one that waits.
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

    /// nil when there was no answer in time, of which a standstill of the machine is no part.
    func wait(seconds: Double) -> Value? {
        var limit = TimeLimit(seconds: seconds)
        return wait(until: &limit)
    }

    /// nil when there was no answer before the limit, which may be one for several promises.
    func wait(until limit: inout TimeLimit) -> Value? {
        while unsafe !sys_semaphore_wait(semaphore, limit.nextLookNanoseconds) {
            guard !limit.isOver() else { return nil }
        }
        return value.withLock { $0 }
    }
}
