import CLua
import SystemPackage

/// Handlers that read from a backing: the request waits for the data, the queue goes on with others.
///
/// The data goes to the tag's scratch room, as its buffer holds what a write brings.
extension Queue where Transport: ~Copyable {
    /// More reads for one IO are a loop without an end.
    private static var questionsMax: UInt16 { 1000 }

    /// Reads what the tag's handler wants, until it has decided or has to wait.
    ///
    /// - Returns: false when it waits.
    @inline(never)
    mutating func ask(_ tag: Tag) -> Bool {
        let request = unsafe requests[tag]
        // The watchdog sees one run after the other; together they block the queue.
        var meter = us_meter_start(
            configuration.budgetNanoseconds,
            SystemCall.threadCPUNanoseconds
        )
        while unsafe request.pointee.questions < Self.questionsMax {
            guard unsafe !us_meter_look(&meter, SystemCall.threadCPUNanoseconds, 0) else {
                giveUp(tag, .budget, "interrupted: reads over its time budget")
                return true
            }
            unsafe request.pointee.questions += 1
            let want = unsafe us_script_wanted(script.handle)
            let data = unsafe scratch(tag)
            switch backings[Int(want.backing)] {
            case .null:
                unsafe data.initializeMemory(as: UInt8.self, repeating: 0, count: Int(want.length))
            case .memory(let memory):
                unsafe memory.read(at: want.offset, length: want.length, into: data)
            case .file(let file):
                unsafe request.pointee.state = .asking
                unsafe request.pointee.backing = want.backing
                unsafe request.pointee.place = want.offset
                unsafe request.pointee.doneBytes = 0
                unsafe request.pointee.endBytes = want.length
                submitQuestion(tag, file)
                return false
            }
            if !goesOnWaiting(tag, errno: 0) { return true }
        }
        giveUp(tag, .runtime, "a handler has read \(Self.questionsMax) times for one IO")
        return true
    }

    private mutating func giveUp(_ tag: Tag, _ status: ScriptError.Status, _ why: String) {
        unsafe us_script_forget(script.handle, tag.rawValue)
        scriptFailed(tag, ScriptError(status: status, text: "\(script.sourceName): \(why)"))
    }

    private func scratch(_ tag: Tag) -> UnsafeMutableRawPointer {
        unsafe transport.buffer(tag) + transport.scratchOffset
    }

    private mutating func submitQuestion(_ tag: Tag, _ file: FileStore.View) {
        let request = unsafe requests[tag]
        let done = unsafe request.pointee.doneBytes
        transport.submit(
            FileOperation(
                kind: .read,
                file: file.file,
                offsetBytes: unsafe request.pointee.place + done,
                lengthBytes: unsafe request.pointee.endBytes - done,
                bufferOffset: transport.scratchOffset + Int(done)
            ),
            for: tag
        )
    }

    /// The file has answered, perhaps in part.
    @inline(never)
    mutating func asked(_ tag: Tag, _ result: Int32) {
        let request = unsafe requests[tag]
        guard case .file(let file) = unsafe backings[Int(request.pointee.backing)] else {
            preconditionFailure("a file operation ended on a backing that is no file")
        }
        if result == -Errno.interrupted.rawValue
            || result == -Errno.resourceTemporarilyUnavailable.rawValue
        {
            return submitQuestion(tag, file)
        }
        // 0: the file ends before the backing does.
        guard result > 0 else {
            return answered(tag, errno: result < 0 ? -result : Errno.ioError.rawValue)
        }
        unsafe request.pointee.doneBytes += UInt64(result)
        if unsafe request.pointee.doneBytes < request.pointee.endBytes {
            return submitQuestion(tag, file)
        }
        answered(tag, errno: 0)
    }

    private mutating func answered(_ tag: Tag, errno: Int32) {
        unsafe requests[tag].pointee.state = .serving
        if unsafe requests[tag].pointee.isOrphaned { return decideAnew(tag) }
        if isDraining, !configuration.isTarget {
            // Nothing is decided any more.
            unsafe us_script_forget(script.handle, tag.rawValue)
        } else if goesOnWaiting(tag, errno: errno), !ask(tag) {
            return
        }
        advance(tag)
    }

    /// Gives the handler its data.
    ///
    /// - Returns: true when it wants more.
    private mutating func goesOnWaiting(_ tag: Tag, errno: Int32) -> Bool {
        var verdict = us_decision()
        let status = unsafe script.resume(
            UnsafePointer(requests.io(tag)),
            now: rules.deviceTime(transport.now),
            errno: errno,
            data: scratch(tag),
            decision: &verdict,
            legs: requests.legs(tag)
        )
        if status == US_WAITS { return true }
        take(verdict, status, tag)
        return false
    }
}
