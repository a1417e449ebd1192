import CLua
import Synchronization
import Testing

@testable import UblkScript

/// Who answers a request, over a device that is none: its queues are answered for by the test.
@Suite struct DispatcherTests {
    /// A device whose queues say what the test wants; nil: nothing.
    private struct FakeDevice: AdministeredDevice {
        let queues: [QueueControl]
        let budgetNanoseconds: UInt64 = 0

        init(queues count: UInt16) {
            queues = (0..<count).map { QueueControl(ledger: Ledger(queue: QueueID($0))) {} }
        }

        func answer(_ request: ServerRequest) -> AdminAnswer {
            if case .status = request {
                .status(ServerStatus(failures: [.drained: 2]))
            } else {
                .refused(AdminRefusal("not here"))
            }
        }

        /// Takes a queue's messages and answers each.
        func turn(_ queue: Int, _ answer: (QueueRequest) -> QueueAnswer) -> Int {
            var count = 0
            for case .ask(let request, let promise) in queues[queue].takeMessages() {
                promise.fulfil(answer(request))
                count += 1
            }
            return count
        }
    }

    private let io = HeldReport(
        queue: 0,
        tag: 1,
        io: 2,
        operation: "read",
        offset: 0,
        length: 512,
        isPaused: false
    )

    @Test func `what all queues have to do is done by all, and adds up`() {
        let device = FakeDevice(queues: 3)
        let dispatcher = Dispatcher(device)
        let released = dispatcher.begin(.queue(.release(Release(order: US_RELEASE_LIFO))))
        for queue in 0..<3 {
            let count = device.turn(queue) {
                #expect($0 == .release(Release(order: US_RELEASE_LIFO)))
                return .success(.released(queue + 1))
            }
            #expect(count == 1)
        }
        #expect(released.ready.map { ControlAnswer($0) }?.text == "released 6")
        let held = dispatcher.begin(.queue(.held))
        for queue in 0..<3 { _ = device.turn(queue) { _ in .success(.held([io])) } }
        #expect(
            held.ready.map { ControlAnswer($0) }?.text
                == [io, io, io].map(\.text).joined(separator: "\n")
        )
        let paused = dispatcher.begin(.queue(.pause(true)))
        for queue in 0..<3 {
            #expect(
                device.turn(queue) {
                    $0 == .pause(true) ? .success(.nothing) : .failure(.noFunction)
                } == 1
            )
        }
        #expect(paused.ready.map { ControlAnswer($0) } == ControlAnswer(isOK: true, text: ""))
    }

    @Test func `what is the device's is done by the first queue for all`() {
        let device = FakeDevice(queues: 2)
        for request in [QueueRequest.live(.seed), .script(["a"], asJSON: false)] {
            let pending = Dispatcher(device).begin(.queue(request))
            let count = device.turn(0) {
                #expect($0 == request)
                return .success(.seed(7))
            }
            #expect(count == 1 && device.turn(1) { _ in .success(.nothing) } == 0)
            #expect(pending.ready.map { ControlAnswer($0) }?.text == "7")
        }
    }

    @Test func `an answer that is not there is none, and one of a part of the queues is not whole`()
    {
        let device = FakeDevice(queues: 3)
        let dispatcher = Dispatcher(device)
        #expect(dispatcher.begin(.queue(.live(.seed))).ready == nil)
        #expect(dispatcher.begin(.queue(.held)).ready == nil)
        for queue in 0..<3 { _ = device.turn(queue) { _ in .success(.nothing) } }
        let asked = device.queues.ask { .ask(.release(Release()), $0) }
        _ = device.turn(1) { _ in .success(.released(4)) }
        let pending = PendingAnswer.ofAll(asked, sum: .released(0), seconds: 0.01)
        guard case .partly(.released(4), let silent, _) = pending.wait() else {
            Issue.record("two of three queues said nothing")
            return
        }
        #expect(silent == [QueueID(0), QueueID(2)])
        let answer = ControlAnswer(.partly(.released(4), silent: silent, seconds: 5))
        #expect(
            answer
                == ControlAnswer(
                    isOK: false,
                    text:
                        "released 4\nqueue 0, queue 2 did not answer within 5 s, and gets to it later"
                )
        )
        #expect(
            ControlAnswer(.partly(.held([]), silent: [QueueID(1)], seconds: 5)).text
                == "queue 1 did not answer within 5 s, and gets to it later"
        )
        #expect(
            ControlAnswer(.silence(seconds: 10))
                == ControlAnswer(isOK: false, text: "the queue did not answer within 10 s")
        )
    }

    @Test func `what a server knows is asked of no queue`() {
        let device = FakeDevice(queues: 1)
        let pending = Dispatcher(device).begin(.server(.status))
        #expect(!pending.isAsked && device.queues[0].takeMessages().isEmpty)
        #expect(
            pending.ready.map { ControlAnswer($0) }
                == ControlAnswer(isOK: true, text: "faults on\ndrained 2")
        )
        let refused = Dispatcher(device).answer(.server(.statistics))
        #expect(ControlAnswer(refused) == ControlAnswer(isOK: false, text: "not here"))
    }

    @Test(
        arguments: [
            (.noRule("x", known: []), "rule: no rule is called \"x\"; there are none"),
            (.noRule("x", known: ["1", "b"]), "rule: no rule is called \"x\"; there is 1, b"),
            (.noSet("x", known: ["b"]), "ranges: the script has no set called \"x\"; there is b"),
            (.noSetOperation, LiveRequest.rangesUsage), (.noMemoryToClear, "ranges: out of memory"),
            (.noMemoryForRanges, "ranges: out of memory, or too many ranges"),
            (.noMemoryForName("x"), "\"x\": out of memory, or more than 65536 names"),
            (
                .noFunction,
                "the script has no ctl function, and the built-in words are: "
                    + "release held stats pause resume rule ranges mark state seed"
            ),
            (.raised("a.lua:1: boom"), "a.lua:1: boom"),
        ] as [(QueueRefusal, String)]
    )
    func `a queue's refusal is told with what there is`(refusal: QueueRefusal, text: String) {
        #expect(
            ControlAnswer(AdminAnswer(.failure(refusal))) == ControlAnswer(isOK: false, text: text)
        )
    }

    @Test func `a program gets JSON, and what Lua wrote as it is`() {
        func json(_ report: ControlReport) -> String {
            ControlAnswer(.report(report), asJSON: true) { JSON.encode($0) }.text
        }
        #expect(json(.mark("go", times: 2)) == "{\"mark\":\"go\",\"times\":2}")
        #expect(json(.script("[1,\"x\"]")) == "{\"answer\":[1,\"x\"]}")
        #expect(json(.nothing) == "{}")
        #expect(ControlAnswer(.report(.mark("go", times: 2))).text == "2")
        #expect(ControlAnswer(.report(.script("1\tx"))).text == "1\tx")
    }
}
