import SystemPackage

/// The threads of a device, to be joined together.
struct ThreadList {
    private final class Member {
        private var thread: OSThread?
        init(_ thread: consuming OSThread) { self.thread = consume thread }
        func join() { thread.take()?.join() }
    }
    private var members: [Member] = []

    /// - Returns: why there is no thread; nil: it runs.
    @discardableResult
    mutating func start(_ name: String, _ run: sending @escaping () -> Void) -> Errno? {
        do throws(Errno) {
            members.append(Member(try OSThread(trying: name, run)))
            return nil
        } catch { return error }
    }

    mutating func joinAll() {
        for member in members { member.join() }
        members = []
    }
}
