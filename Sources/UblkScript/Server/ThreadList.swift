/// The threads of a device, to be joined together.
struct ThreadList {
    private final class Member {
        private var thread: OSThread?
        init(_ thread: consuming OSThread) { self.thread = consume thread }
        func join() { thread.take()?.join() }
    }
    private var members: [Member] = []

    mutating func start(_ name: String, _ run: sending @escaping () -> Void) {
        members.append(Member(OSThread(name: name, run)))
    }

    mutating func joinAll() {
        for member in members { member.join() }
        members = []
    }
}
