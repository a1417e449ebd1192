import CLua

/// A Lua state with a script loaded: its declarations and its handlers.
///
/// Used by one thread at a time. Everything that can raise a Lua error happens in C below `lua_pcall`; this side sees
/// only status codes and plain structs.
@safe
struct Script: ~Copyable {
    // Safety: made in init, freed in deinit, used by one thread at a time.
    let handle: OpaquePointer
    private let source: ScriptSource
    let shared: SharedObjects
    let bank: Int
    /// See ``Options/goesOn``.
    let goesOn: Bool
    /// Bits of ``IOOp``: the ops with a handler.
    let handlers: UInt32

    struct Options {
        var memoryBytes: UInt64 = 64 << 20
        /// CPU time limit of the load phase.
        var loadLimitNanoseconds: UInt64 = 5_000_000_000
        var seed: UInt64 = 0
        var queue = QueueID(0)
        /// The bank of objects without a name (``SharedObjects``): 0 or 1, in turn from one load to the next.
        var bank = 0
        /// The result of `now()` while the script loads.
        var now = Instant(nanoseconds: 0)
        /// The file that `log()` writes to; -1: none.
        var logFD: Int32 = -1
        /// The values that the command line gives to the parameters of `params{}`.
        var arguments: [String: String] = [:]
        /// The values that the command line gives to keys of `device{}`, which returns them.
        var settings: [String: String] = [:]
        /// The shared objects have what the load phase makes of them, and all since: it changes none.
        var goesOn = false
        /// Keep the functions given to `test()`; see ``ScriptTest``.
        var keepsTests = false
    }

    /// Makes a Lua state and runs the script's text once.
    init(
        _ source: ScriptSource,
        shared: SharedObjects,
        options: Options
    ) throws(ScriptError) {
        NativeObjects.handOver()
        var raw = unsafe us_script_options()
        unsafe raw.memory_limit = Int(options.memoryBytes)
        unsafe raw.load_limit_ns = options.loadLimitNanoseconds
        unsafe raw.seed = options.seed
        unsafe raw.queue = UInt32(options.queue.rawValue)
        unsafe raw.bank = UInt32(options.bank)
        unsafe raw.now = options.now.nanoseconds
        unsafe raw.log_fd = options.logFD
        unsafe raw.shared = shared.address
        unsafe raw.keeps_tests = options.keepsTests
        unsafe raw.goes_on = options.goesOn
        let made = unsafe source.directory.withCString { directory in
            unsafe raw.directory = directory
            return unsafe us_script_new(&raw)
        }
        guard let handle = unsafe made else {
            throw ScriptError(status: .memory, text: "\(source.name): no memory for a Lua state")
        }
        for (words, isOfDevice) in [(options.arguments, false), (options.settings, true)] {
            for (key, value) in words {
                guard unsafe us_script_set_argument(handle, key, value, isOfDevice) else {
                    unsafe us_script_free(handle)
                    throw ScriptError(status: .memory, text: "\(source.name): no memory for \(key)")
                }
            }
        }
        var watch: LoadWatch
        do throws(ScriptError) {
            watch = try LoadWatch(source.name, limitNanoseconds: options.loadLimitNanoseconds)
        } catch {
            unsafe us_script_free(handle)
            throw error
        }
        let status = unsafe Self.run(source, handle)
        watch.end()
        guard status == US_OK else {
            let error = unsafe ScriptError(status, handle)
            unsafe us_script_free(handle)
            throw error
        }
        unsafe self.handle = handle
        self.source = source
        self.shared = shared
        bank = options.bank
        goesOn = options.goesOn
        unsafe handlers = us_script_handlers(handle)
    }

    deinit { unsafe us_script_free(handle) }

    private static func run(_ source: ScriptSource, _ handle: OpaquePointer) -> us_status {
        unsafe source.text.withUnsafeBytes { bytes in
            unsafe us_script_load(
                handle,
                bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
                bytes.count,
                "@" + source.name
            )
        }
    }

    /// The script's name in messages.
    var sourceName: String { source.name }

    /// The script's name in the ledger.
    var sourceShortName: String { source.shortName }

    /// A path that the script names, made absolute.
    func resolve(_ path: String) -> String { source.resolve(path) }

    /// The script's global functions with their lines, by name.
    var functions: [(name: String, line: Int32)] {
        var list = unsafe [us_function](repeating: unsafe us_function(), count: 1000)
        let count = unsafe us_script_functions(handle, &list, list.count)
        return unsafe list.prefix(count).map { unsafe (String(cString: $0.name), $0.line) }
            .sorted { $0.0 < $1.0 }
    }

    var hasCtl: Bool { unsafe us_script_has_ctl(handle) }
    var memoryUsedBytes: Int { unsafe us_script_memory_used(handle) }

    /// Calls the handler of the IO's op.
    ///
    /// - Precondition: ``handlers`` has the op's bit.
    /// - Parameter segments: room for US_SEGMENTS_MAX.
    /// - Returns: US_OK with `decision` set; otherwise `decision` is unchanged, and ``lastError(_:)`` has the error.
    @inline(__always)
    func decide(
        _ io: UnsafePointer<us_io>,
        now: Instant,
        decision: inout us_decision,
        segments: UnsafeMutablePointer<us_segment>
    ) -> us_status {
        unsafe us_script_set_now(handle, now.nanoseconds)
        return unsafe us_script_decide(handle, io, &decision, segments)
    }

    /// Resumes the tag's handler, which has waited for data that it reads.
    ///
    /// - Parameters:
    ///   - errno: 0, or the error of the read.
    ///   - data: the data that was read.
    func resume(
        _ io: UnsafePointer<us_io>,
        now: Instant,
        errno: Int32,
        data: UnsafeRawPointer,
        decision: inout us_decision,
        segments: UnsafeMutablePointer<us_segment>
    ) -> us_status {
        unsafe us_script_set_now(handle, now.nanoseconds)
        return unsafe us_script_resume(handle, io, errno, data, &decision, segments)
    }

    /// When the next timer is due, on the device's clock; nil when there is none.
    @inline(__always)
    var nextTimer: UInt64? {
        let due = unsafe us_script_next_timer(handle)
        return due == .max ? nil : due
    }

    /// Runs the function of the next timer.
    func runTimer(now: Instant) throws(ScriptError) {
        unsafe us_script_set_now(handle, now.nanoseconds)
        let status = unsafe us_script_run_timer(handle)
        guard status == US_OK else { throw unsafe ScriptError(status, handle) }
    }

    /// The error of the last call that did not return US_OK.
    func lastError(_ status: us_status) -> ScriptError { unsafe ScriptError(status, handle) }

    /// Runs the script's `ctl(...)`.
    ///
    /// - Returns: the values that it returned, as text or as a JSON array.
    func ctl(_ words: [String], asJSON: Bool = false, now: Instant) throws(ScriptError) -> String {
        unsafe us_script_set_now(handle, now.nanoseconds)
        var result: UnsafePointer<CChar>?
        var length = 0
        let status = unsafe withCStrings(words) { argv in
            unsafe us_script_ctl(handle, words.count, argv, asJSON, &result, &length)
        }
        guard status == US_OK else { throw unsafe ScriptError(status, handle) }
        guard let result = unsafe result else { return "" }
        let bytes = unsafe UnsafeRawBufferPointer(start: result, count: length)
        return unsafe String(decoding: bytes, as: UTF8.self)
    }

    private func withCStrings<R>(
        _ words: [String],
        _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> R
    ) -> R {
        // All words are in one block, so that there is one lifetime to manage.
        var block: [CChar] = []
        var starts: [Int] = []
        for word in words {
            starts.append(block.count)
            block += word.utf8CString
        }
        return unsafe block.withUnsafeBufferPointer { bytes in
            let argv = unsafe starts.map { start in
                unsafe bytes.baseAddress.map { base in unsafe base + start }
            }
            return unsafe argv.withUnsafeBufferPointer { unsafe body($0.baseAddress) }
        }
    }
}

/// The error of a script that does not load, or of a function that raised.
struct ScriptError: Error, CustomStringConvertible, Equatable {
    enum Status: Sendable { case syntax, runtime, memory, budget }
    let status: Status
    /// The message, with file and line as Lua gives them.
    let text: String
    var description: String { text }

    /// The state's memory limit leaves no room for the queue's `io` objects.
    static func noMemoryForTags(source: String, depth: Int) -> ScriptError {
        ScriptError(
            status: .memory,
            text: "\(source): the script's memory limit leaves no room for \(depth) tags: "
                + "raise memory, or lower depth"
        )
    }

    /// There is no address space for the tables of `seen` and `age`.
    static func noMemoryForHistory(source: String, deviceBytes: UInt64) -> ScriptError {
        ScriptError(
            status: .memory,
            text: "\(source): no address space for what seen and age keep of a device of "
                + "\(Quantity.text(bytes: deviceBytes)): 1 byte and 8 for each 4 KiB"
        )
    }

    init(status: Status, text: String) {
        self.status = status
        self.text = text
    }

    fileprivate init(_ status: us_status, _ handle: OpaquePointer) {
        self.status =
            switch status {
            case US_SYNTAX: .syntax
            case US_MEMORY: .memory
            case US_BUDGET: .budget
            default: .runtime
            }
        // A script may raise any bytes; a log or a terminal gets only printable text.
        text = Printable.text(unsafe String(cString: us_script_error(handle)))
    }
}
