/// One request as an application makes it.
struct SimulatedRequest: Equatable, Sendable {
    var op: IOOp
    var flags: IOFlags = []
    var offsetBytes: UInt64 = 0
    var lengthBytes: UInt64 = 0
    var start = Start.soon

    /// When the application makes it, if there is a place for it.
    enum Start: Equatable, Sendable {
        /// As soon as it comes to it.
        case soon
        /// The same, but not before that time.
        case after(Instant)
        /// At that time.
        case at(Instant)
    }

    /// C: `UBLK_IO_F_META`: a filesystem's own data.
    static let metaFlag = IOFlags(rawValue: 1 << 11)

    var desc: IODesc {
        IODesc(op: op, flags: flags, offsetBytes: offsetBytes, lengthBytes: lengthBytes)
    }

    /// As in a workload file, in bytes.
    var text: String { op == .flush ? op.name : "\(op.name) \(offsetBytes) \(lengthBytes)" }

    /// Why the block layer would not hand this request to a device, as a sentence; nil: it would.
    func problem(on config: DeviceConfig, sizeBytes: UInt64) -> String? {
        switch op {
        case .flush:
            return config.hasVolatileCache
                ? nil : "the device has no volatile cache, so the kernel sends it no flush"
        case .read: break
        case .write, .discard, .writeZeroes:
            if config.isReadOnly { return "the device is read-only" }
        }
        let block = UInt64(config.logicalBlockBytes)
        guard offsetBytes % block == 0, lengthBytes % block == 0, lengthBytes > 0 else {
            return "offset and length are whole blocks of \(block) bytes, at least one"
        }
        guard lengthBytes <= sizeBytes, offsetBytes <= sizeBytes - lengthBytes else {
            return "it ends past the device's \(sizeBytes) bytes"
        }
        switch op {
        case .flush: return nil
        case .read, .write:
            guard lengthBytes <= UInt64(config.maxIOBytes) else {
                return "the device takes at most \(config.maxIOBytes) bytes at a time"
            }
            let chunk = UInt64(config.chunkBytes)
            guard chunk == 0 || offsetBytes % chunk + lengthBytes <= chunk else {
                return "the kernel cuts it where a chunk of \(chunk) bytes ends"
            }
            guard !flags.contains(.fua) || op == .write && config.hasFUA else {
                return op == .write
                    ? "the device takes no fua: the kernel sends a flush instead"
                    : "fua is for writes"
            }
            return nil
        case .discard: return problem(config.discard)
        case .writeZeroes: return problem(config.writeZeroes)
        }
    }

    private func problem(_ limits: DeviceParams.Limits?) -> String? {
        guard let limits else { return "the device does not offer \(op.name)" }
        let granule = op == .discard ? max(1, UInt64(limits.granularityBytes)) : 1
        guard offsetBytes % granule == 0, lengthBytes % granule == 0 else {
            return "the kernel cuts discards to whole pieces of \(granule) bytes"
        }
        return lengthBytes <= limits.maxBytes
            ? nil : "the device takes at most \(limits.maxBytes) bytes of it at a time"
    }
}
