import CUring

/// Commands for `/dev/ublk-control` in words, for a trace.
extension ControlCommand {
    /// What the command said and, with an answer, what came back; "" when there is nothing to say.
    ///
    /// - Parameters:
    ///   - asked: its payload.
    ///   - answer: the payload after it; nil: it has failed.
    func text(asked: [UInt8], answer: [UInt8]?) -> String {
        switch kind {
        case .addDevice:
            let wanted = DeviceInfo(Bytes.load(ublk_dev_info.self, from: asked))
            let text = Self.text(wanted)
            guard let answer else { return text }
            return text
                + Self.difference(DeviceInfo(Bytes.load(ublk_dev_info.self, from: answer)), wanted)
        case .setParams: return Self.text(Bytes.load(ublk_params.self, from: asked))
        case .getParams:
            return answer.map { Self.text(Bytes.load(ublk_params.self, from: $0)) } ?? ""
        case .getFeatures:
            return answer.map { Self.flags(Features(rawValue: Bytes.load(UInt64.self, from: $0))) }
                ?? ""
        case .getDeviceInfo:
            guard let answer else { return "" }
            let info = DeviceInfo(Bytes.load(ublk_dev_info.self, from: answer))
            return "state \(info.state.name), server \(info.serverPID)"
        case .getQueueAffinity:
            return "queue \(data)" + (answer.map { ", CPU \(Self.cpus($0))" } ?? "")
        case .startDevice, .endRecovery: return "process \(data) serves it"
        case .updateSize: return "\(data) sectors of 512 bytes"
        case .quiesceDevice: return "within \(data) ms"
        case .registerBuffer:
            return Rounded.bytes(Bytes.load(ublk_shared_buffer.self, from: asked).len)
        case .unregisterBuffer: return "buffer \(data)"
        case .stopDevice, .tryStopDevice, .deleteDevice, .deleteDeviceAndWait, .startRecovery,
            .getDeviceInfo2:
            return ""
        }
    }

    private static func text(_ info: DeviceInfo) -> String {
        """
        \(info.queues) queue\(info.queues == 1 ? "" : "s"), depth \(info.depth), \
        at most \(Rounded.bytes(UInt64(info.maxIOBytes))) an IO, \(flags(info.features))
        """
    }

    private static func difference(_ granted: DeviceInfo, _ wanted: DeviceInfo) -> String {
        var text = granted.id.map { "; it is device \($0)" } ?? ""
        if granted.queues != wanted.queues { text += ", with \(granted.queues) queues" }
        let added = granted.features.subtracting(wanted.features)
        let missing = wanted.features.subtracting(granted.features)
        if !added.isEmpty { text += ", the driver adds \(flags(added))" }
        if !missing.isEmpty { text += ", without \(flags(missing))" }
        return text
    }

    private static func flags(_ features: Features) -> String {
        let names = features.named.map(\.name)
        return names.isEmpty ? "no flags" : "flags " + names.joined(separator: " ")
    }

    private static func text(_ params: ublk_params) -> String {
        let basic = params.basic
        func bytes(_ shift: UInt8) -> String { Rounded.bytes(1 << UInt64(shift & 63)) }
        func sectors(_ count: UInt32) -> String { Rounded.bytes(UInt64(count) << 9) }
        let attributes = [
            ("READ_ONLY", UBLK_ATTR_READ_ONLY.rawValue),
            ("ROTATIONAL", UBLK_ATTR_ROTATIONAL.rawValue),
            ("VOLATILE_CACHE", UBLK_ATTR_VOLATILE_CACHE.rawValue), ("FUA", UBLK_ATTR_FUA.rawValue),
        ].filter { basic.attrs & $0.1 != 0 }.map(\.0)
        var text =
            """
            BASIC: \(basic.dev_sectors) sectors of 512 bytes, logical block \(bytes(basic.logical_bs_shift)), \
            physical \(bytes(basic.physical_bs_shift)), io_min \(bytes(basic.io_min_shift)), \
            io_opt \(bytes(basic.io_opt_shift)), at most \(sectors(basic.max_sectors)) an IO
            """
        if basic.chunk_sectors != 0 { text += ", chunks of \(sectors(basic.chunk_sectors))" }
        if !attributes.isEmpty { text += ", " + attributes.joined(separator: " ") }
        guard params.types & UBLK_PARAM_DISCARD.rawValue != 0 else { return text }
        let discard = params.discard
        return text + """
            ; DISCARD: granularity \(Rounded.bytes(UInt64(discard.discard_granularity))), \
            at most \(sectors(discard.max_discard_sectors)), \
            write zeroes at most \(sectors(discard.max_write_zeroes_sectors))
            """
    }

    /// `0-3,5` of a bitmap.
    static func cpus(_ bitmap: [UInt8]) -> String {
        let set = (0..<bitmap.count * 8).filter { bitmap[$0 / 8] >> UInt8($0 % 8) & 1 != 0 }
        var runs: [ClosedRange<Int>] = []
        for cpu in set {
            if let last = runs.last, last.upperBound + 1 == cpu {
                runs[runs.count - 1] = last.lowerBound...cpu
            } else {
                runs.append(cpu...cpu)
            }
        }
        return runs.map {
            $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
        }.joined(separator: ",")
    }
}
