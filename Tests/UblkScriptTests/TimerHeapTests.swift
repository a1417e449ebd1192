import Testing

@testable import UblkScript

@Suite struct TimerHeapTests {
    /// What a heap of deadlines should do, done by searching.
    private struct Model {
        var deadlines: [UInt16: UInt64] = [:]
        var next: UInt64? { deadlines.values.min() }
    }

    @Test(arguments: [1, 2, 3, UInt64.random(in: 4...UInt64.max)])
    func `a heap agrees with a search over 20000 steps`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let depth = 1 + Int(random.below(70))
        var heap = TimerHeap(depth: depth)
        var model = Model()
        var now: UInt64 = 0
        for step in 0..<20_000 {
            let tag = UInt16(random.below(UInt64(depth)))
            switch random.below(4) {
            case 0, 1:
                guard model.deadlines[tag] == nil else { continue }
                // Few different deadlines, so that many are equal.
                let deadline = now + random.below(40)
                heap.push(Tag(tag), deadline: Instant(nanoseconds: deadline))
                model.deadlines[tag] = deadline
            case 2:
                heap.remove(Tag(tag))
                model.deadlines[tag] = nil
            default:
                now += random.below(10)
                while let due = heap.popDue(at: Instant(nanoseconds: now)) {
                    let deadline = model.deadlines.removeValue(forKey: due.rawValue)
                    let earliest = model.next ?? .max
                    let isEarliest = deadline.map { $0 <= now && $0 <= earliest } ?? false
                    #expect(isEarliest, "seed \(seed), step \(step)")
                }
                #expect(model.next.map { $0 > now } ?? true, "seed \(seed), step \(step)")
            }
            #expect(heap.nextDeadline?.nanoseconds == model.next, "seed \(seed), step \(step)")
        }
    }

    @Test func `a heap of one holds one`() {
        var heap = TimerHeap(depth: 1)
        #expect(heap.nextDeadline == nil)
        heap.push(Tag(0), deadline: Instant(nanoseconds: 5))
        #expect(heap.popDue(at: Instant(nanoseconds: 4)) == nil)
        #expect(heap.popDue(at: Instant(nanoseconds: 5)) == Tag(0))
        #expect(heap.popDue(at: Instant(nanoseconds: .max)) == nil)
        heap.remove(Tag(0))
        #expect(heap.nextDeadline == nil)
    }

    @Test func `a tag with two deadlines stops the program`() async {
        await #expect(processExitsWith: .failure) {
            var heap = TimerHeap(depth: 2)
            heap.push(Tag(1), deadline: Instant(nanoseconds: 1))
            heap.push(Tag(1), deadline: Instant(nanoseconds: 2))
        }
    }
}
