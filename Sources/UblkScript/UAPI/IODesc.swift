import CUring

/// What a request asks for.
///
/// Source: UAPI `UBLK_IO_OP_*`.
enum IOOp: UInt8, Sendable, CaseIterable {
    case read = 0
    case write = 1
    case flush = 2
    case discard = 3
    case writeZeroes = 5

    /// Bit of the op in masks of ops.
    @inline(__always)
    var bit: UInt32 { 1 << UInt32(rawValue) }
    static let allBits: UInt32 = allCases.reduce(0) { $0 | $1.bit }
}

/// Flags of a request, the driver's bits of `op_flags`.
///
/// Source: UAPI `UBLK_IO_F_*`.
struct IOFlags: OptionSet, Sendable {
    let rawValue: UInt32
    /// Force unit access: durable before it completes.
    ///
    /// C: `UBLK_IO_F_FUA`.
    static let fua = IOFlags(rawValue: 1 << 13)
    /// Write zeroes must not deallocate.
    ///
    /// C: `UBLK_IO_F_NOUNMAP`.
    static let noUnmap = IOFlags(rawValue: 1 << 15)
    /// The driver could not register the pages of the request.
    ///
    /// C: `UBLK_IO_F_NEED_REG_BUF`.
    static let isNotRegistered = IOFlags(rawValue: 1 << 17)
    /// The data of the request is in a buffer of REG_BUF.
    ///
    /// C: `UBLK_IO_F_SHMEM_ZC`.
    static let isShared = IOFlags(rawValue: 1 << 19)
}

/// One request as the driver describes it, copied out of the mapped array.
///
/// C: `struct ublksrv_io_desc`.
struct IODesc: Sendable {
    /// The operation number; not every value is an ``IOOp``.
    let opCode: UInt8
    var flags: IOFlags
    /// First byte on the device; 0 for a flush, where the driver's value means nothing.
    let offsetBytes: UInt64
    /// Length in bytes: 0 for a flush, at most 32 bits of sectors.
    let lengthBytes: UInt64

    init(_ raw: ublk_io_desc) {
        opCode = UInt8(truncatingIfNeeded: raw.op_flags)
        flags = IOFlags(rawValue: raw.op_flags & ~0xff)
        let isFlush = opCode == IOOp.flush.rawValue
        offsetBytes = isFlush ? 0 : raw.start_sector << 9
        lengthBytes = isFlush ? 0 : UInt64(raw.nr_sectors) << 9
    }

    init(op: IOOp, flags: IOFlags = [], offsetBytes: UInt64, lengthBytes: UInt64) {
        opCode = op.rawValue
        self.flags = flags
        self.offsetBytes = offsetBytes
        self.lengthBytes = lengthBytes
    }
}
