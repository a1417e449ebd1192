import CUring

/// The limits the block layer sees.
///
/// C: `struct ublk_params`; checked by `ublk_validate_params`.
struct DeviceParams: Sendable, Equatable, Codable {
    var sizeBytes: UInt64
    /// A power of two from 512 to the page size.
    var logicalBlockBytes: UInt32 = 512
    /// A power of two, at least the logical block.
    var physicalBlockBytes: UInt32 = 4096
    var ioMinBytes: UInt32 = 4096
    /// Optimal size of an IO, bytes; 0: none given.
    var ioOptBytes: UInt32 = 0
    /// Reads and writes that cross a multiple of this are split by the block layer, bytes; 0: none are.
    var chunkBytes: UInt32 = 0
    var maxIOBytes: UInt32 = 512 << 10
    var readOnly = false
    var rotational = false
    /// FLUSH (and, with `fua`, FUA) requests arrive only with this.
    var volatileCache = false
    var fua = false
    /// Limits of DISCARD and WRITE_ZEROES; nil: the operation is not offered.
    var discard: Limits?
    var writeZeroes: Limits?

    /// Limits of DISCARD and WRITE_ZEROES.
    struct Limits: Sendable, Equatable, Codable {
        var granularityBytes: UInt32
        var maxBytes: UInt64
    }

    var raw: ublk_params {
        var raw = ublk_params()
        raw.len = UInt32(MemoryLayout<ublk_params>.size)
        raw.types = UBLK_PARAM_BASIC.rawValue
        raw.basic.attrs = attributes
        raw.basic.logical_bs_shift = Self.shift(logicalBlockBytes)
        raw.basic.physical_bs_shift = Self.shift(physicalBlockBytes)
        raw.basic.io_min_shift = Self.shift(ioMinBytes)
        // The driver always applies 1 << shift; with none given the logical block says nothing new.
        raw.basic.io_opt_shift = Self.shift(ioOptBytes == 0 ? logicalBlockBytes : ioOptBytes)
        raw.basic.chunk_sectors = chunkBytes >> 9
        raw.basic.max_sectors = maxIOBytes >> 9
        raw.basic.dev_sectors = sizeBytes >> 9
        guard discard != nil || writeZeroes != nil else { return raw }
        raw.types |= UBLK_PARAM_DISCARD.rawValue
        // One granularity serves both; 0 is refused even when only write zeroes is offered.
        raw.discard.discard_granularity =
            discard?.granularityBytes ?? writeZeroes?.granularityBytes ?? logicalBlockBytes
        raw.discard.max_discard_sectors = Self.sectors(discard)
        raw.discard.max_write_zeroes_sectors = Self.sectors(writeZeroes)
        raw.discard.max_discard_segments = discard == nil ? 0 : 1
        return raw
    }

    private var attributes: UInt32 {
        var attributes: UInt32 = 0
        if readOnly { attributes |= UBLK_ATTR_READ_ONLY.rawValue }
        if rotational { attributes |= UBLK_ATTR_ROTATIONAL.rawValue }
        if volatileCache { attributes |= UBLK_ATTR_VOLATILE_CACHE.rawValue }
        if fua { attributes |= UBLK_ATTR_FUA.rawValue }
        return attributes
    }

    private static func shift(_ bytes: UInt32) -> UInt8 { UInt8(bytes.trailingZeroBitCount) }

    private static func sectors(_ limits: Limits?) -> UInt32 {
        guard let limits else { return 0 }
        return UInt32(min(limits.maxBytes >> 9, UInt64(UInt32.max)))
    }
}

extension ublk_params {
    /// Size of the disk.
    var sizeBytes: UInt64 { basic.dev_sectors << 9 }

    /// True when the driver kept every type and value that `other` asked for.
    func keeps(_ other: ublk_params) -> Bool {
        types & other.types == other.types
            && basic.attrs == other.basic.attrs
            && basic.logical_bs_shift == other.basic.logical_bs_shift
            && basic.physical_bs_shift == other.basic.physical_bs_shift
            && basic.io_min_shift == other.basic.io_min_shift
            && basic.io_opt_shift == other.basic.io_opt_shift
            && basic.chunk_sectors == other.basic.chunk_sectors
            && basic.max_sectors == other.basic.max_sectors
            && basic.dev_sectors == other.basic.dev_sectors
            && discard.discard_granularity == other.discard.discard_granularity
            && discard.max_discard_sectors == other.discard.max_discard_sectors
            && discard.max_write_zeroes_sectors == other.discard.max_write_zeroes_sectors
    }
}
