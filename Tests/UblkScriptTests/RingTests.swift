import CUring
import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// The ring on the machine's own io_uring.
///
/// NOPs and files only.
@Suite(.enabled(if: TestHost.hasUring, "io_uring cannot be used here"))
struct RingTests {
    /// Queues one NOP with that number as its tag.
    private func queueNop(_ ring: inout Ring, _ number: UInt16) {
        let sqe = unsafe ring.submission()
        unsafe io_uring_prep_nop(sqe)
        unsafe sqe.pointee.user_data = UserData(.request, tag: Tag(number)).rawValue
    }

    /// Waits until `count` completions have come; their tags in order of arrival.
    private func collect(_ ring: inout Ring, _ count: Int) -> [UInt16] {
        var tags: [UInt16] = []
        for _ in 0...count where tags.count < count {
            ring.wait(timeoutNanoseconds: 2_000_000_000)
            while let completion = ring.nextCompletion() {
                #expect(completion.result == 0)
                #expect(completion.userData.kind == .request)
                tags.append(completion.userData.tag.rawValue)
            }
        }
        return tags
    }

    private func milliseconds(_ body: () -> Void) -> Double {
        let start = SystemCall.monotonicNanoseconds
        body()
        return Double(SystemCall.monotonicNanoseconds - start) / 1e6
    }

    @Test(arguments: [Ring.Style.queue, .control])
    func `NOPs complete, each once, with their user data`(style: Ring.Style) throws {
        var ring = try Ring(entries: 8, style: style)
        for number in 0..<8 { queueNop(&ring, UInt16(number)) }
        #expect(collect(&ring, 8).sorted() == Array(0..<8))
        #expect(ring.nextCompletion() == nil)
    }

    @Test func `before a wait nothing is handed out`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        queueNop(&ring, 1)
        ring.submit()
        #expect(ring.nextCompletion() == nil)
        #expect(collect(&ring, 1) == [1])
    }

    @Test func `a wait without anything to do returns at the deadline`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        let waited = milliseconds { ring.wait(timeoutNanoseconds: 50_000_000) }
        #expect(waited >= 50)
        #expect(waited < 1000)
        #expect(ring.nextCompletion() == nil)
    }

    @Test func `a deadline that has passed does not wait`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        #expect(milliseconds { ring.wait(timeoutNanoseconds: 0) } < 500)
    }

    @Test func `a deadline at the end of time is no error`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        queueNop(&ring, 5)
        ring.wait(timeoutNanoseconds: .max)
        #expect(ring.nextCompletion()?.userData.tag == Tag(5))
    }

    @Test func `completions that are there end a wait at once`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        queueNop(&ring, 1)
        #expect(milliseconds { ring.wait(timeoutNanoseconds: 5_000_000_000) } < 2000)
        #expect(ring.nextCompletion()?.userData.tag == Tag(1))
    }

    @Test(arguments: [Ring.Style.queue, .control])
    func `more submissions than entries all arrive`(style: Ring.Style) throws {
        var ring = try Ring(entries: 4, style: style)
        for number in 0..<100 { queueNop(&ring, UInt16(number)) }
        #expect(collect(&ring, 100).sorted() == Array(0..<100))
    }

    @Test func `reaping gives slots back, over many rounds`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        for round in 0..<5000 {
            for number in 0..<4 { queueNop(&ring, UInt16(number)) }
            let tags = collect(&ring, 4).sorted()
            guard tags == [0, 1, 2, 3] else {
                Issue.record("round \(round): \(tags)")
                return
            }
        }
    }

    @Test func `a batch that is read in part goes on after the next wait`() throws {
        var ring = try Ring(entries: 4, style: .queue)
        for number in 0..<4 { queueNop(&ring, UInt16(number)) }
        ring.wait(timeoutNanoseconds: 1_000_000_000)
        var tags: [UInt16] = []
        if let first = ring.nextCompletion() { tags.append(first.userData.tag.rawValue) }
        for number in 4..<6 { queueNop(&ring, UInt16(number)) }
        tags += collect(&ring, 5)
        #expect(tags.sorted() == Array(0..<6))
    }

    @Test func `a registered file is read by its index`() throws {
        let directory = ScratchDirectory()
        let fd = unsafe open(directory.write("data", "0123456789"), O_RDONLY | O_CLOEXEC)
        defer { close(fd) }
        var ring = try Ring(entries: 4, style: .queue)
        try ring.register(files: [-1, fd])
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4, alignment: 8)
        defer { unsafe buffer.deallocate() }
        let sqe = unsafe ring.submission()
        unsafe io_uring_prep_read(sqe, 1, buffer.baseAddress, 4, 3)
        unsafe uring_use_fixed_file(sqe)
        unsafe sqe.pointee.user_data = UserData(.operation, tag: Tag(9)).rawValue
        ring.wait(timeoutNanoseconds: 2_000_000_000)
        let completion = ring.nextCompletion()
        #expect(completion?.result == 4)
        #expect(completion?.userData == UserData(.operation, tag: Tag(9)))
        #expect(unsafe Array(buffer) == Array("3456".utf8))
    }

    @Test func `files are registered once`() throws {
        let ring = try Ring(entries: 4, style: .queue)
        try ring.register(files: [0])
        #expect(throws: Errno.resourceBusy) { try ring.register(files: [0]) }
    }

    @Test func `a control ring has SQEs of 128 bytes, a queue ring of 64`() throws {
        func stride(_ style: Ring.Style) throws -> Int {
            var ring = try Ring(entries: 4, style: style)
            let first = unsafe UInt(bitPattern: ring.submission())
            let second = unsafe UInt(bitPattern: ring.submission())
            return Int(second) - Int(first)
        }
        #expect(try stride(.control) == 128)
        #expect(try stride(.queue) == 64)
    }

    @Test func `a ring that cannot be made says why`() {
        #expect(throws: Errno.invalidArgument) { _ = try Ring(entries: 0, style: .queue) }
        #expect(throws: Errno.invalidArgument) { _ = try Ring(entries: 1 << 20, style: .control) }
    }
}
