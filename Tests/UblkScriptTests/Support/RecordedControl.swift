import CUring

@testable import UblkScript

/// A control transport that notes each command and answers from a closure instead of a driver.
final class RecordedControl: ControlTransport {
    struct Sent {
        var command: ControlCommand
        var payload: [UInt8]
        var seconds: Int
    }

    typealias Answer = (ControlCommand, inout [UInt8]) throws(DeviceError) -> Void

    private(set) var sent: [Sent] = []
    private let answer: Answer
    /// What is answered to each command.
    var result: Int32 = 0

    init(_ answer: @escaping Answer = { _, _ throws(DeviceError) in }) { self.answer = answer }

    @discardableResult
    func run(
        _ command: ControlCommand,
        payload: inout [UInt8],
        seconds: Int
    ) throws(DeviceError) -> Int32 {
        sent.append(Sent(command: command, payload: payload, seconds: seconds))
        try answer(command, &payload)
        return result
    }

    var kinds: [ControlCommand.Kind] { sent.map(\.command.kind) }

    /// The SQE128 of the command with that index, as `DriverControl` fills it, at address 0x7766554433221100 and fd 7.
    func submission(_ index: Int = 0) -> [UInt8] {
        let sent = sent[index]
        var raw = sent.command.encoded(
            payloadAddress: 0x7766_5544_3322_1100,
            payloadLength: sent.payload.count
        )
        return unsafe filledSubmission(bytes: 128) { sqe in
            unsafe uring_prep_ublk_control(sqe, 7, sent.command.kind.code, &raw)
            unsafe sqe.pointee.user_data = UserData(.control, tag: Tag(3)).rawValue
        }
    }
}

/// The bytes of an SQE that `fill` filled.
///
/// What it leaves alone stays 0xAA.
func filledSubmission(bytes: Int, _ fill: (UnsafeMutablePointer<uring_sqe>) -> Void) -> [UInt8] {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 128, alignment: 8)
    defer { unsafe memory.deallocate() }
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0xaa)
    guard let base = memory.baseAddress else { return [] }
    unsafe fill(base.assumingMemoryBound(to: uring_sqe.self))
    precondition(unsafe memory[bytes...].allSatisfy { $0 == 0xaa }, "written past the SQE")
    return unsafe Array(memory.prefix(bytes))
}
