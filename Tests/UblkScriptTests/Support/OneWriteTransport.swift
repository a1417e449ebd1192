import Runtime
import Synchronization

@testable import UblkScript

/// Frames at a commit, the innermost first.
final class Walk: Sendable {
    let frames = Mutex<[String]>([])
    let result = Mutex<Int32>(0)

    func capture(_ commit: Commit) {
        result.withLock { $0 = commit.result }
        guard let trace = try? Backtrace.capture().symbolicated(options: .showInlineFrames) else {
            return
        }
        let names = trace.frames.compactMap { $0.symbol?.name }.filter {
            !$0.contains("Walk.") && !$0.contains("protocol witness")
        }
        frames.withLock { $0 = names }
    }
}

/// Hands out one write and takes its commit.
@safe
struct OneWriteTransport: QueueTransport, ~Copyable {
    // Safety: the buffer is one page and room for what handlers read, freed in deinit.
    private let buffer = UnsafeMutableRawPointer.allocate(
        byteCount: 4096 + QueueScratch.bytes,
        alignment: 4096
    )
    private let walk: Walk
    private var events: [QueueEvent] = [.fetched(Tag(0))]

    let now = Instant(nanoseconds: 1)
    let scratchOffset = 4096

    init(_ walk: Walk) { self.walk = walk }

    deinit { unsafe buffer.deallocate() }

    func wait(until deadline: Instant?) {}
    mutating func nextEvent() -> QueueEvent? { events.popLast() }
    func data(_ tag: Tag) -> IOData { unsafe .mapped(buffer) }
    func submit(_ operation: FileOperation, for tag: Tag, transfer: Int) {}

    func desc(_ tag: Tag) -> IODesc {
        SimulatedRequest(op: .write, offsetBytes: 4096, lengthBytes: 4096).desc
    }

    mutating func commit(_ tag: Tag, _ commit: Commit) {
        walk.capture(commit)
        events = [.aborted(tag)]
    }
}
