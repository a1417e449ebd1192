import Glibc
import SystemPackage

/// A named POSIX thread that can be joined.
///
/// Queues need real ones: the driver binds a tag to the thread that fetched it.
@safe
struct OSThread: ~Copyable {
    // Safety: joined or detached at most once; who does neither keeps it until the process exits.
    private let handle: pthread_t

    private final class Body {
        let name: String
        let run: () -> Void
        init(name: String, run: sending @escaping () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// Starts `run` on a new thread.
    ///
    /// - Parameter name: at most 15 bytes are kept.
    /// - Throws: EAGAIN when there is no memory or no number for it: a limit of the caller's.
    init(trying name: String, _ run: sending @escaping () -> Void) throws(Errno) {
        let body = unsafe Unmanaged.passRetained(Body(name: name, run: run))
        var handle = pthread_t()
        let result = unsafe pthread_create(
            &handle,
            nil,
            { raw in
                guard let raw = unsafe raw else { return nil }
                let body = unsafe Unmanaged<Body>.fromOpaque(raw).takeRetainedValue()
                SystemCall.setThreadName(body.name)
                body.run()
                return nil
            },
            body.toOpaque()
        )
        guard result == 0 else {
            unsafe body.release()
            throw Errno(rawValue: result)
        }
        self.handle = handle
    }

    /// For a simulation, which cannot go on without the thread; all else takes ``init(trying:_:)``.
    init(name: String, _ run: sending @escaping () -> Void) {
        do throws(Errno) { self = try OSThread(trying: name, run) } catch {
            fatalError("a thread cannot be made: \(error)")
        }
    }

    consuming func join() { pthread_join(handle, nil) }

    /// Nobody waits for its end.
    consuming func detach() { pthread_detach(handle) }
}
