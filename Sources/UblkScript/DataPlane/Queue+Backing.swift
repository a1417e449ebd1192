import CLua
import SystemPackage

/// Doing what a request asks for, in one or more steps, each in one backing.
///
/// Memory answers at once; a file answers through the ring, in one or more operations.
extension Queue where Transport: ~Copyable {
    /// Hands the request to its backings.
    @inline(__always)
    mutating func perform(_ tag: Tag) {
        let request = unsafe requests[tag]
        let isElsewhere =
            unsafe request.pointee.decision.outcome == UInt8(US_OUTCOME_REDIRECT.rawValue)
        if isElsewhere || backings.count > 1 { return performSteps(tag) }
        unsafe begin(request, backing: 0, place: request.pointee.io.offset)
        performStep(tag)
    }

    /// The next step: bytes of the request's part at a place of a backing.
    ///
    /// - Parameter place: where the IO's first byte would be.
    @inline(__always)
    func begin(_ request: UnsafeMutablePointer<Request>, backing: UInt32, place: UInt64) {
        unsafe request.pointee.backing = backing
        unsafe request.pointee.place = place
        unsafe request.pointee.doneBytes = request.pointee.partFrom
        unsafe request.pointee.endBytes = request.pointee.partTo
    }

    @inline(__always)
    mutating func performStep(_ tag: Tag) {
        let number = unsafe Int(requests[tag].pointee.backing)
        switch backings[number] {
        case .null: stepIsDone(tag)
        case .memory(let memory): perform(tag, on: memory)
        case .file(let file): perform(tag, on: file)
        }
    }

    @inline(__always)
    private mutating func perform(_ tag: Tag, on memory: MemoryStore.View) {
        let request = unsafe requests[tag]
        let first = unsafe request.pointee.doneBytes
        let offset = unsafe request.pointee.place &+ first
        let length = unsafe request.pointee.endBytes - first
        let data = unsafe transport.buffer(tag) + Int(first)
        switch unsafe IOOp(rawValue: request.pointee.io.op) {
        case .read: unsafe memory.read(at: offset, length: length, into: data)
        case .write: unsafe memory.write(at: offset, length: length, from: data)
        case .discard, .writeZeroes: memory.clear(at: offset, length: length)
        case .flush, nil: break
        }
        stepIsDone(tag)
    }

    @inline(__always)
    mutating func stepIsDone(_ tag: Tag) {
        if unsafe requests[tag].pointee.nextStep != 0 { return performNextStep(tag) }
        unsafe complete(tag, Int32(clamping: requests[tag].pointee.io.length))
    }

    // MARK: Files

    private mutating func perform(_ tag: Tag, on file: FileStore.View) {
        let request = unsafe requests[tag]
        unsafe request.pointee.state = .backing
        unsafe request.pointee.zeroing =
            isDurable(request, file) ? .writing : firstZeroing(request, file)
        submitFileOperation(tag, file)
    }

    /// Sends the next operation of the request, after what earlier ones have done.
    private mutating func submitFileOperation(_ tag: Tag, _ file: FileStore.View) {
        let request = unsafe requests[tag]
        let done = unsafe request.pointee.doneBytes
        let offset = unsafe request.pointee.place &+ done
        let length = unsafe request.pointee.endBytes - done
        let write: FileOperation.Kind = unsafe isDurable(request, file) ? .writeDurably : .write
        switch unsafe IOOp(rawValue: request.pointee.io.op) {
        case .read: submit(tag, file, .read, offset, length, bufferOffset: Int(done))
        case .write: submit(tag, file, write, offset, length, bufferOffset: Int(done))
        case .flush: submit(tag, file, .sync, 0, 0)
        case .discard: submit(tag, file, .punchHole, offset, length)
        case .writeZeroes:
            switch unsafe request.pointee.zeroing {
            case .zeroRange: submit(tag, file, .zeroRange, offset, length)
            case .punchHole: submit(tag, file, .punchHole, offset, length)
            case .writing: writeZeroesByHand(tag, file, write, offset, length)
            }
        case nil: preconditionFailure("an unknown op reached the backing")
        }
    }

    /// True when the request must be on the medium before it completes: then zeroes are written, as
    /// fallocate has no such flag.
    private func isDurable(
        _ request: UnsafeMutablePointer<Request>,
        _ file: FileStore.View
    ) -> Bool {
        if file.writesThrough { return true }
        let isFUA = unsafe request.pointee.io.flags & IOFlags.fua.rawValue != 0
        return unsafe isFUA && request.pointee.decision.ignores_fua == 0
    }

    private mutating func submit(
        _ tag: Tag,
        _ file: FileStore.View,
        _ kind: FileOperation.Kind,
        _ offset: UInt64,
        _ length: UInt64,
        bufferOffset: Int = 0
    ) {
        transport.submit(
            FileOperation(
                kind: kind,
                file: file.file,
                offsetBytes: offset,
                lengthBytes: length,
                bufferOffset: bufferOffset
            ),
            for: tag
        )
    }

    /// The last resort of write-zeroes: the tag's own buffer, zeroed, as often as it takes.
    private mutating func writeZeroesByHand(
        _ tag: Tag,
        _ file: FileStore.View,
        _ kind: FileOperation.Kind,
        _ offset: UInt64,
        _ length: UInt64
    ) {
        let chunk = min(length, UInt64(configuration.maxIOBytes))
        unsafe transport.buffer(tag).initializeMemory(
            as: UInt8.self,
            repeating: 0,
            count: Int(chunk)
        )
        submit(tag, file, kind, offset, chunk)
    }

    /// A file operation is over: go on with the rest, fall back, or complete.
    mutating func backingFinished(_ tag: Tag, _ result: Int32) {
        let request = unsafe requests[tag]
        if unsafe request.pointee.state == .asking { return asked(tag, result) }
        precondition(unsafe request.pointee.state == .backing)
        guard case .file(let file) = unsafe backings[Int(request.pointee.backing)] else {
            preconditionFailure("a file operation ended on a backing that is no file")
        }
        if result < 0 {
            let errno = Errno(rawValue: -result)
            if errno == .interrupted || errno == .resourceTemporarilyUnavailable {
                return submitFileOperation(tag, file)
            }
            if unsafe hasFallback(errno, request, file) { return submitFileOperation(tag, file) }
            if isAdvisory(errno, tag) { return stepIsDone(tag) }
            return backingFailed(tag, errno.rawValue, "")
        }
        guard unsafe transfersBytes(request) else { return stepIsDone(tag) }
        if result == 0 {
            return backingFailed(
                tag,
                Errno.ioError.rawValue,
                ": the file ends before the device does"
            )
        }
        unsafe request.pointee.doneBytes += UInt64(result)
        if unsafe request.pointee.doneBytes < request.pointee.endBytes {
            return submitFileOperation(tag, file)
        }
        stepIsDone(tag)
    }

    /// True when results of the request's operations are byte counts.
    private func transfersBytes(_ request: UnsafeMutablePointer<Request>) -> Bool {
        switch unsafe IOOp(rawValue: request.pointee.io.op) {
        case .read, .write: true
        case .writeZeroes: unsafe request.pointee.zeroing == .writing
        default: false
        }
    }

    /// The first way to zero that is worth trying for this request: what this backing refused once
    /// is not asked again, and a hole is no answer to a request that must keep its blocks.
    private func firstZeroing(
        _ request: UnsafeMutablePointer<Request>,
        _ file: FileStore.View
    ) -> FileStore.Zeroing {
        let mustKeepBlocks = unsafe request.pointee.io.flags & IOFlags.noUnmap.rawValue != 0
        return file.zeroing == .punchHole && mustKeepBlocks ? .writing : file.zeroing
    }

    /// Steps a refused write-zeroes down: zero range, punch hole, plain writes.
    private mutating func hasFallback(
        _ errno: Errno,
        _ request: UnsafeMutablePointer<Request>,
        _ file: FileStore.View
    ) -> Bool {
        guard unsafe request.pointee.io.op == IOOp.writeZeroes.rawValue, Self.isRefusal(errno)
        else { return false }
        var file = file
        switch unsafe request.pointee.zeroing {
        case .zeroRange: file.zeroing = max(file.zeroing, .punchHole)
        case .punchHole: file.zeroing = .writing
        case .writing: return false
        }
        unsafe backings[Int(request.pointee.backing)] = .file(file)
        unsafe request.pointee.zeroing = firstZeroing(request, file)
        return true
    }

    /// A discard may be ignored where the backing has none: it promises nothing about the data.
    private func isAdvisory(_ errno: Errno, _ tag: Tag) -> Bool {
        unsafe requests[tag].pointee.io.op == IOOp.discard.rawValue && Self.isRefusal(errno)
    }

    private static func isRefusal(_ errno: Errno) -> Bool {
        errno == .notSupported || errno == .invalidArgument
    }

    mutating func backingFailed(_ tag: Tag, _ errno: Int32, _ note: String) {
        unsafe requests[tag].pointee.nextStep = 0
        record(.backingError, tag, errno: errno)
        unasked(.backingErrors, tag, errno: errno, note)
        complete(tag, -errno)
    }
}
