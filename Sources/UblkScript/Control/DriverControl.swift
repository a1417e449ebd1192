import CUring
import Glibc
import SystemPackage

/// Control commands on the real `/dev/ublk-control`.
///
/// One thread, one command at a time, each with a time limit.
///
/// Most commands are run by a kernel worker and may block there (STOP_DEV for as long as a server
/// holds an IO), so the wait has a deadline. A command that neither ends nor can be cancelled
/// leaves its buffer with the kernel; this object then refuses further commands, and a new one must
/// be made.
@safe
final class DriverControl: ControlTransport {
    // Safety: `buffer` is owned here and freed in deinit unless the kernel still has it.
    private static let path = "/dev/ublk-control"
    private static let bufferBytes = 4096
    private let fd: Int32
    private var ring: Ring
    private let buffer: UnsafeMutableRawPointer
    private var sequence: UInt16 = 0
    private var isStuck = false

    init() throws(DeviceError) {
        let fd = unsafe open(Self.path, O_RDWR | O_CLOEXEC)
        guard fd >= 0 else { throw Self.openError(Errno(rawValue: Glibc.errno)) }
        do {
            // A blocked command keeps a kernel worker, of which there are as many as entries.
            ring = try Ring(entries: 32, style: .control)
        } catch {
            close(fd)
            throw .noUring(error)
        }
        self.fd = fd
        unsafe buffer = UnsafeMutableRawPointer.allocate(byteCount: Self.bufferBytes, alignment: 8)
    }

    deinit {
        close(fd)
        if !isStuck { unsafe buffer.deallocate() }
    }

    private static func openError(_ errno: Errno) -> DeviceError {
        switch errno {
        case .noSuchFileOrDirectory, .operationNotSupportedByDevice, .noSuchAddressOrDevice:
            .noDriver
        case .permissionDenied, .notPermitted: .noPermission
        default: .system(call: "open", path: path, errno)
        }
    }

    func run(
        _ command: ControlCommand,
        payload: inout [UInt8],
        seconds: Int
    ) throws(DeviceError) -> Int32 {
        precondition(payload.count <= Self.bufferBytes)
        guard !isStuck else { throw .timeout(command.kind, command.device, seconds: 0) }
        send(command, payload)
        guard let result = awaitAnswer(seconds: seconds) else {
            throw .timeout(command.kind, command.device, seconds: seconds)
        }
        guard result >= 0 else {
            // 524 is the kernel's internal ENOTSUPP, which some drivers let out.
            let errno = result == -524 ? Errno.notSupported : Errno(rawValue: -result)
            throw .command(command.kind, command.device, errno)
        }
        unsafe payload.withUnsafeMutableBytes { bytes in
            unsafe bytes.copyMemory(
                from: UnsafeRawBufferPointer(start: buffer, count: bytes.count)
            )
        }
        return result
    }

    private func send(_ command: ControlCommand, _ payload: [UInt8]) {
        unsafe payload.withUnsafeBytes {
            unsafe buffer.copyMemory(
                from: $0.baseAddress ?? UnsafeRawPointer(buffer),
                byteCount: $0.count
            )
        }
        sequence &+= 1
        var raw = unsafe command.encoded(
            payloadAddress: UInt64(UInt(bitPattern: buffer)),
            payloadLength: payload.count
        )
        let sqe = unsafe ring.submission()
        unsafe uring_prep_ublk_control(sqe, fd, command.kind.code, &raw)
        unsafe sqe.pointee.user_data = UserData(.control, tag: Tag(sequence)).rawValue
    }

    /// Waits for the answer; nil when there is none, even after the command was cancelled.
    private func awaitAnswer(seconds: Int) -> Int32? {
        let answer = UserData(.control, tag: Tag(sequence))
        if let result = wait(for: answer, seconds: Double(seconds)) {
            return result
        }
        let sqe = unsafe ring.submission()
        unsafe io_uring_prep_cancel64(sqe, answer.rawValue, 0)
        unsafe sqe.pointee.user_data = UserData(.cancel).rawValue
        let late = wait(for: answer, seconds: 0.5)
        isStuck = late == nil
        // One that was cancelled had no answer; one that ended at the last moment had.
        let wasCancelled =
            late == -Errno.canceled.rawValue || late == -Errno.interrupted.rawValue
        return wasCancelled ? nil : late
    }

    private func wait(for answer: UserData, seconds: Double) -> Int32? {
        var limit = TimeLimit(seconds: seconds)
        while true {
            ring.wait(timeoutNanoseconds: limit.nextLookNanoseconds)
            while let completion = ring.nextCompletion() {
                if completion.userData == answer { return completion.result }
            }
            guard !limit.isOver() else { return nil }
        }
    }
}
