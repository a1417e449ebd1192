import Testing

@testable import UblkScript

@Suite struct TimeLimitTests {
    private let step = TimeLimit.stepNanoseconds

    @Test func `a process that runs waits for as long as the limit says`() {
        var limit = TimeLimit(seconds: 1, now: 0)
        let over = (1...10).map { limit.isOver(now: UInt64($0) * step) }
        #expect(over == Array(repeating: false, count: 9) + [true])
    }

    @Test func `a machine that stood still for a minute does not use the limit up`() {
        var limit = TimeLimit(seconds: 1, now: 0)
        let standstill: UInt64 = 60_000_000_000
        let isOver = limit.isOver(now: standstill)
        #expect(!isOver)
        // It counted as two steps, so that eight are left.
        let over = (1...8).map { limit.isOver(now: standstill + UInt64($0) * step) }
        #expect(over == Array(repeating: false, count: 7) + [true])
    }

    @Test func `a look never takes longer than what is left`() {
        var limit = TimeLimit(seconds: 0.15, now: 0)
        #expect(limit.nextLookNanoseconds == step)
        let isOver = limit.isOver(now: step)
        #expect(!isOver)
        #expect(limit.nextLookNanoseconds == step / 2)
    }

    @Test func `a promise that is kept late is waited for in time in which this process runs`() {
        let promise = Promise<Int>()
        #expect(promise.wait(seconds: 0.01) == nil)
        promise.fulfil(7)
        #expect(promise.wait(seconds: 0) == 7)
    }
}
