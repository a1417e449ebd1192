import CLua

/// A test that a script carries: `test("name", function(disk) ... end)`.
struct ScriptTest: Equatable, Sendable {
    let name: String
    /// Line of the test's declaration.
    let line: Int32
    /// Settings that this test wants in place of those of the command line, `key=value`.
    let settings: [String]

    /// The same as a ``Setting`` each.
    ///
    /// - Parameter source: the script's name in messages.
    func overrides(source: String) -> [Setting] {
        settings.map { text in
            let key = text.prefix { $0 != "=" }
            return Setting(
                key: String(key),
                value: .string(String(text.dropFirst(key.count + 1))),
                origin: "\(source):\(line): test \"\(name)\""
            )
        }
    }

    /// Where a test has got to.
    enum Step {
        case passed
        case failed(ScriptError)
        /// It waits until this is done.
        case wants(Want)
    }

    /// What a test asks of its disk.
    enum Want {
        case send(Request, waits: Bool)
        /// Until the request of that number is over.
        case finish(UInt64)
        case advance(nanoseconds: UInt64)
        case control([String])
    }

    /// An IO of a test's; numbered from 1.
    struct Request {
        let number: UInt64
        let op: IOOp
        let flags: IOFlags
        let offsetBytes: UInt64
        let lengthBytes: UInt64
        /// The data of a write.
        let data: [UInt8]
    }

    /// The result of a request.
    struct Answer {
        let number: UInt64
        let nanoseconds: UInt64
        /// Name of the errno; nil: the request succeeded.
        let errno: String?
        /// The data of a read that succeeded.
        let data: [UInt8]?
    }

    /// The properties of the disk that a test sees.
    struct Disk {
        let sizeBytes: UInt64
        let blockBytes: UInt64
        let maxIOBytes: UInt64
    }
}

/// A state that runs one of the script's tests; loaded with ``Script/Options/keepsTests``.
///
/// The test is a coroutine: it stops where it asks for something, with nothing of Lua's on the
/// stack, and is resumed when that is done.
extension Script {
    /// The tests of the script, in file order; none in a state that does not keep them.
    var tests: [ScriptTest] {
        let count = unsafe us_script_test_count(handle)
        return (0..<count).map { index in
            unsafe ScriptTest(
                name: String(cString: us_script_test_name(handle, index)),
                line: us_script_test_line(handle, index),
                settings: settings(ofTest: index)
            )
        }
    }

    private func settings(ofTest index: Int) -> [String] {
        var settings: [String] = []
        while let text = unsafe us_script_test_setting(handle, index, settings.count) {
            unsafe settings.append(String(cString: text))
        }
        return settings.sorted()
    }

    /// Begins a test, once in the life of a state.
    func beginTest(_ index: Int, disk: ScriptTest.Disk, now: Instant) -> ScriptTest.Step {
        var raw = us_test_disk()
        raw.size = disk.sizeBytes
        raw.block = disk.blockBytes
        raw.max_io = disk.maxIOBytes
        unsafe us_script_set_now(handle, now.nanoseconds)
        return unsafe step(us_script_test_begin(handle, index, &raw))
    }

    /// Tells what came of a request, before the test goes on.
    func testEnded(_ answer: ScriptTest.Answer) throws(ScriptError) {
        let status = unsafe withOptional(answer.errno) { errno in
            unsafe (answer.data ?? []).withUnsafeBytes { bytes in
                unsafe us_script_test_ended(
                    handle,
                    answer.number,
                    answer.nanoseconds,
                    errno,
                    answer.data == nil ? nil : bytes.baseAddress,
                    bytes.count
                )
            }
        }
        guard status == US_OK else { throw lastError(status) }
    }

    /// Goes on with a test that waits.
    ///
    /// - Parameters:
    ///   - refusal: the call that waits raises this; nil: it returns.
    ///   - answer: what a ctl said.
    func resumeTest(refusal: String?, answer: String?, now: Instant) -> ScriptTest.Step {
        unsafe us_script_set_now(handle, now.nanoseconds)
        let status = unsafe withOptional(refusal) { refusal in
            unsafe withOptional(answer) { text in
                unsafe us_script_test_resume(handle, refusal, text, answer?.utf8.count ?? 0)
            }
        }
        return step(status)
    }

    private func withOptional<R>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> R) -> R {
        guard let text else { return body(nil) }
        return unsafe text.withCString { unsafe body($0) }
    }

    private func step(_ status: us_status) -> ScriptTest.Step {
        switch status {
        case US_OK: .passed
        case US_WAITS: .wants(unsafe want(us_script_test_wanted(handle)))
        default: .failed(lastError(status))
        }
    }

    private func want(_ raw: us_test_want) -> ScriptTest.Want {
        switch unsafe raw.step {
        case US_TEST_SEND: return unsafe .send(request(raw), waits: raw.waits)
        case US_TEST_FINISH: return unsafe .finish(raw.number)
        case US_TEST_ADVANCE: return unsafe .advance(nanoseconds: raw.time_ns)
        default:
            let words = unsafe UnsafeBufferPointer(start: raw.words, count: raw.word_count)
            let copies = unsafe words.map { word in
                unsafe word.map { unsafe String(cString: $0) } ?? ""
            }
            return .control(copies)
        }
    }

    private func request(_ raw: us_test_want) -> ScriptTest.Request {
        guard let op = unsafe IOOp(rawValue: raw.op) else {
            preconditionFailure("a test sends what is no op")
        }
        let data = unsafe UnsafeRawBufferPointer(
            start: raw.data,
            count: raw.data == nil ? 0 : Int(raw.length)
        )
        return unsafe ScriptTest.Request(
            number: raw.number,
            op: op,
            flags: IOFlags(rawValue: raw.flags),
            offsetBytes: raw.offset,
            lengthBytes: raw.length,
            data: Array(data)
        )
    }
}
