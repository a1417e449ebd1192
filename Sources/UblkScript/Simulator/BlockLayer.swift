import SystemPackage

/// What the kernel makes of a committed result before an application sees it.
///
/// The driver's rules in the simulator's words; each names the function of
/// `drivers/block/ublk_drv.c` (6.12 to 7.2) or of the block layer that has it.
enum BlockLayer {
    /// How an application's request ended.
    enum Outcome: Equatable, Sendable {
        case done
        case failed(Errno)
    }

    /// The errnos that survive; every other one arrives as EIO.
    ///
    /// Source: `block/blk-core.c`, `blk_errors[]` and `errno_to_blk_status`.
    static let errnos: Set<Int32> = [
        5, 11, 12, 16, 19, 22, 28, 52, 61, 62, 67, 75, 78, 84, 95, 109, 110, 121,
    ]

    /// Stops on results a server must never commit.
    static func check(_ request: SimulatedRequest, result: Int32) {
        guard result >= 0 else { return }
        let length = request.lengthBytes
        // __ublk_complete_rq: more than asked for is clamped, with a warning in copy mode that can
        // panic the machine.
        precondition(UInt64(result) <= length, "committed \(result) bytes of \(length)")
        guard request.op == .read || request.op == .write else { return }
        // __ublk_complete_rq: a write of 0 bytes is requeued and comes back at once, for ever.
        precondition(result != 0, "committed 0 bytes of a \(request.op.name)")
        // __ublk_complete_rq: the rest of a short one is requeued (to 7.2), or lost (from 7.3).
        precondition(UInt64(result) == length, "committed a short \(request.op.name): \(result)")
    }

    /// The application's view of a committed result.
    static func outcome(of request: SimulatedRequest, result: Int32) -> Outcome {
        if result < 0 {
            // __ublk_complete_rq through errno_to_blk_status and back.
            return .failed(errnos.contains(-result) ? Errno(rawValue: -result) : .ioError)
        }
        // __ublk_complete_rq: a read that brought nothing is an error; other ops take any count for
        // success.
        return result == 0 && request.op == .read ? .failed(.ioError) : .done
    }
}
