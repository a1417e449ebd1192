import CLua
import SystemPackage

/// Requests that go elsewhere than to their own place, or to several: `to(...)`, and a flush of a device with
/// several backings.
///
/// One step after the other; the first error ends the request. A step can be over at once, so steps call
/// each other, at most as deep as there are steps.
extension Queue where Transport: ~Copyable {
    @inline(never)
    mutating func performSteps(_ tag: Tag) {
        let request = unsafe requests[tag]
        let decision = unsafe request.pointee.decision
        if unsafe request.pointee.io.op == IOOp.flush.rawValue {
            unsafe request.pointee.nextStep = 1
            return performNextStep(tag)
        }
        guard decision.outcome == UInt8(US_OUTCOME_REDIRECT.rawValue) else {
            unsafe begin(request, backing: 0, place: request.pointee.io.offset)
            return performStep(tag)
        }
        guard decision.leg_count != 0 else {
            unsafe begin(request, backing: decision.to_backing, place: redirected(request))
            return performStepWhereItFits(tag)
        }
        if unsafe request.pointee.io.op == IOOp.read.rawValue { clearData(tag) }
        unsafe request.pointee.nextStep = 1
        performNextStep(tag)
    }

    /// What no step reads is zero.
    private func clearData(_ tag: Tag) {
        let length = unsafe Int(requests[tag].pointee.io.length)
        unsafe transport.buffer(tag).initializeMemory(as: UInt8.self, repeating: 0, count: length)
    }

    private func redirected(_ request: UnsafeMutablePointer<Request>) -> UInt64 {
        unsafe us_redirected(
            &request.pointee.decision,
            request.pointee.io.offset,
            request.pointee.io.length,
            configuration.sizeBytes
        )
    }

    /// Step `nextStep`, counted from 1; after the last one `nextStep` is 0 again.
    @inline(never)
    mutating func performNextStep(_ tag: Tag) {
        let request = unsafe requests[tag]
        let step = unsafe Int(request.pointee.nextStep)
        let isFlush = unsafe request.pointee.io.op == IOOp.flush.rawValue
        let count = unsafe isFlush ? backings.count : Int(request.pointee.decision.leg_count)
        unsafe request.pointee.nextStep = step < count ? UInt8(step + 1) : 0
        if isFlush {
            unsafe begin(request, backing: UInt32(step - 1), place: 0)
            return performStep(tag)
        }
        let leg = unsafe requests.legs(tag)[step - 1]
        unsafe begin(request, backing: leg.backing, place: leg.offset &- leg.at)
        let end = unsafe leg.length != 0 ? leg.at + leg.length : request.pointee.io.length
        unsafe request.pointee.doneBytes = max(request.pointee.doneBytes, leg.at)
        unsafe request.pointee.endBytes = min(request.pointee.endBytes, end)
        // Of a write that is stored in part nothing may be left for this step.
        if unsafe request.pointee.doneBytes >= request.pointee.endBytes {
            return stepIsDone(tag)
        }
        performStepWhereItFits(tag)
    }

    /// A rule's place is not looked at before: it does not know which IOs come.
    private mutating func performStepWhereItFits(_ tag: Tag) {
        let request = unsafe requests[tag]
        let first = unsafe request.pointee.place &+ request.pointee.doneBytes
        let length = unsafe request.pointee.endBytes - request.pointee.doneBytes
        let backing = unsafe backings[Int(request.pointee.backing)]
        let size = backing.sizeBytes ?? configuration.sizeBytes
        guard length <= size, first <= size - length else {
            return backingFailed(
                tag,
                Errno.ioError.rawValue,
                ": to() is past the end of its backing (\(size) bytes)"
            )
        }
        performStep(tag)
    }
}
