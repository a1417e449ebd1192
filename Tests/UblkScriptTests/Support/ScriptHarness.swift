import CLua

@testable import UblkScript

/// What a handler decided, in a form that can be compared.
struct Verdict: Equatable, CustomStringConvertible {
    enum Outcome: Equatable {
        case pass
        case fail(Int32)
        case drop
        case zero
        case redirect(UInt64)
    }
    var outcome = Outcome.pass
    var delay: UInt64 = 0
    /// nil: it does not hang; 0: for ever.
    var hang: UInt64?

    static let pass = Verdict()
    static func fail(_ name: String) -> Verdict {
        Verdict(outcome: .fail(Quantity.blockErrno(named: name) ?? -1))
    }

    var description: String { "\(outcome) delay \(delay) hang \(hang.map { "\($0)" } ?? "no")" }

    init(outcome: Outcome = .pass, delay: UInt64 = 0, hang: UInt64? = nil) {
        self.outcome = outcome
        self.delay = delay
        self.hang = hang
    }

    init(_ decision: us_decision) {
        outcome =
            switch UInt32(decision.outcome) {
            case US_OUTCOME_FAIL.rawValue: .fail(decision.error)
            case US_OUTCOME_DROP.rawValue: .drop
            case US_OUTCOME_ZERO.rawValue: .zero
            case US_OUTCOME_REDIRECT.rawValue: .redirect(decision.to_offset)
            default: .pass
            }
        delay = decision.delay_ns
        hang = decision.hangs != 0 ? decision.hang_ns : nil
    }
}

/// A loaded script with an IO bound to each of a few tags, as a queue would have it.
///
/// One thread.
@safe
final class ScriptHarness {
    // Safety: `tags` elements, freed in deinit after the script, which is what looks at them.
    let script: Script
    let shared: SharedObjects
    private let ios: UnsafeMutablePointer<us_io>
    /// Of every IO: 64 KiB, what a write brings and a read gets.
    let data = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 8)
    /// Lends its room for segments.
    private let requests = RequestTable(
        depth: 1,
        queue: QueueID(0),
        counters: QueueCounters()
    )
    private var sequence: UInt64 = 0
    static let tags = 4

    /// Loads `text` as `test.lua`.
    init(
        _ text: String,
        shared: SharedObjects = SharedObjects(queues: 1),
        options: Script.Options = Script.Options()
    ) throws(ScriptError) {
        let source = ScriptSource(path: "test.lua", text: text)
        script = try Script(source, shared: shared, options: options)
        self.shared = shared
        unsafe ios = .allocate(capacity: Self.tags)
        unsafe ios.initialize(repeating: us_io(), count: Self.tags)
        for tag in 0..<Self.tags {
            let isBound = unsafe us_script_bind_io(
                script.handle,
                UInt16(tag),
                ios + tag,
                data,
                requests.patches(Tag(0))
            )
            precondition(isBound, "us_script_bind_io")
        }
    }

    // `ios` is freed before the script: closing a state runs none of its code.
    deinit {
        unsafe ios.deallocate()
        unsafe data.deallocate()
    }

    var hasCtl: Bool { script.hasCtl }

    var deviceBytes: UInt64 = 0 {
        didSet { unsafe us_script_set_backing_size(script.handle, 0, deviceBytes) }
    }

    /// Asks the handler of `op` about one IO, which is over afterwards.
    func decide(
        _ op: IOOp,
        offset: UInt64 = 0,
        length: UInt64 = 4096,
        flags: UInt32 = 0,
        tag: UInt16 = 0,
        now: UInt64 = 0
    ) throws(ScriptError) -> Verdict {
        sequence += 1
        let io = unsafe ios + Int(tag)
        unsafe io.pointee.offset = offset
        unsafe io.pointee.length = length
        unsafe io.pointee.sequence = sequence
        unsafe io.pointee.flags = flags
        unsafe io.pointee.tag = tag
        unsafe io.pointee.op = op.rawValue
        unsafe io.pointee.live = 1
        defer { unsafe io.pointee.live = 0 }
        var decision = us_decision()
        let status = unsafe script.decide(
            io,
            now: Instant(nanoseconds: now),
            decision: &decision,
            segments: requests.segments(Tag(0))
        )
        guard status == US_OK else { throw script.lastError(status) }
        return Verdict(decision)
    }

    /// What the handler said, or why it could not.
    func outcome(_ op: IOOp = .read, offset: UInt64 = 0, length: UInt64 = 4096) -> Result<
        Verdict, ScriptError
    > {
        do throws(ScriptError) {
            return .success(try decide(op, offset: offset, length: length))
        } catch { return .failure(error) }
    }

    func ctl(_ words: String..., now: UInt64 = 0) throws(ScriptError) -> String {
        try script.ctl(words, now: Instant(nanoseconds: now))
    }

    /// Runs `body` while a watchdog with that budget looks after the script.
    func watched(budgetNanoseconds: UInt64 = 20_000_000, _ body: () throws -> Void) rethrows {
        let watchdog = Watchdog(budgetNanoseconds: budgetNanoseconds) {
            preconditionFailure("a test's script is stuck in C")
        }
        watchdog.add(script)
        var threads = ThreadList()
        threads.start("test-watchdog") { watchdog.run() }
        defer {
            watchdog.remove(script)
            watchdog.stop()
            threads.joinAll()
        }
        try body()
    }

    /// The value of a Lua expression in the ctl phase, as text.
    static func value(of expression: String) throws(ScriptError) -> String {
        try ScriptHarness("function ctl() return \(expression) end").ctl()
    }
}

/// Why `text` does not load as a script; nil when it does.
func loadError(_ text: String, options: Script.Options = Script.Options()) -> ScriptError? {
    do throws(ScriptError) {
        _ = try ScriptHarness(text, options: options)
        return nil
    } catch { return error }
}
