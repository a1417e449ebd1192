import CUring
import Glibc
import Synchronization
import Testing

@testable import UblkScript

/// What other threads tell a queue.
@Suite struct QueueControlTests {
    private func pauses(_ messages: [QueueMessage]) -> [Bool] {
        messages.compactMap { if case .ask(.pause(let pauses), _) = $0 { pauses } else { nil } }
    }

    @Test func `messages arrive in the order they were sent, each once`() {
        let control = QueueControl(wake: {})
        for pauses in [true, true, false] { control.send(.pause(pauses)) }
        #expect(pauses(control.takeMessages()) == [true, true, false])
        #expect(control.takeMessages().isEmpty)
        control.send(.pause(true))
        #expect(pauses(control.takeMessages()) == [true])
    }

    @Test func `each message wakes the queue up`() {
        let wakeups = Atomic<Int>(0)
        let control = QueueControl(wake: { wakeups.add(1, ordering: .relaxed) })
        control.send(.drain)
        control.send(.quit)
        #expect(wakeups.load(ordering: .relaxed) == 2)
    }

    @Test func `nothing is lost when several threads send while the queue reads`() {
        let control = QueueControl(wake: {})
        let perThread = 2000
        var threads = ThreadList()
        for number in 0..<3 {
            threads.start("test-sender") {
                for index in 0..<perThread {
                    let words = ["\(number)", "\(index)"]
                    control.send(.ask(.script(words, asJSON: false), Promise()))
                }
            }
        }
        var seen: [String: Int] = [:]
        var total = 0
        while total < 3 * perThread {
            for case .ask(.script(let words, _), _) in control.takeMessages() {
                #expect(Int(words[1]) == seen[words[0], default: 0], "in each sender's order")
                seen[words[0], default: 0] += 1
                total += 1
            }
        }
        threads.joinAll()
        #expect(control.takeMessages().isEmpty)
    }
}

/// The memory that the kernel writes to for a queue.
@Suite struct TagBuffersTests {
    @Test func `each tag has whole pages of its own, and the wakeup's number is behind them all`()
        throws
    {
        let buffers = try TagBuffers(depth: 3, maxIOBytes: 5000)
        #expect(buffers.stride >= 5000 + QueueScratch.bytes)
        #expect(buffers.stride % SystemPage.bytes == 0)
        #expect(unsafe buffers.wakeupValue - buffers.first == 3 * buffers.stride)
        unsafe buffers.wakeupValue.storeBytes(of: 7, as: UInt64.self)
        #expect(unsafe buffers.wakeupValue.load(as: UInt64.self) == 7)
    }

    @Test func `too much of it is an error that says how much`() {
        #expect {
            try TagBuffers(depth: 1 << 20, maxIOBytes: 1 << 40)
        } throws: { "\($0)".contains("1048576 IO buffers of 1099511627776 bytes") }
    }

    /// What a transport leaves parked when its thread ends must have memory until then.
    @Test(.enabled(if: TestHost.hasUring, "io_uring cannot be used here"))
    func `a read that is still parked when its ring goes finds its memory there`() throws {
        let event = try SystemCall.makeEventFD()
        defer { close(event) }
        let buffers = try TagBuffers(depth: 1, maxIOBytes: 4096)
        let ended = Promise<Bool>()
        let thread = OSThread(name: "test-queue") {
            do {
                var ring = try Ring(entries: 4, style: .queue)
                let sqe = unsafe ring.submission()
                unsafe io_uring_prep_read(sqe, event, buffers.wakeupValue, 8, 0)
                ring.submit()
                ended.fulfil(true)
            } catch { ended.fulfil(false) }
        }
        var one: UInt64 = 1
        _ = unsafe write(event, &one, 8)
        thread.join()
        #expect(ended.wait(seconds: 5) == true)
        // Not read, or read to where it was to be: after the thread's end nothing changes any more.
        #expect(unsafe buffers.wakeupValue.load(as: UInt64.self) <= 1)
    }
}
