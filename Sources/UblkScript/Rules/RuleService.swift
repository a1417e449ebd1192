import CLua

/// `service`: a queueing model of a device with one or more servers, each busy with one IO at a time.
///
/// Plain data; each queue has its own copy and its own servers. Queue thread. A server may be a disk arm that has to
/// move to the IO's offset: seek times follow Ruemmler and Wilkes ("An introduction to disk drive modeling", IEEE
/// Computer 1994), growing with the square root of a short distance and linearly with a long one.
struct RuleService {
    /// Service time of an IO, nanoseconds, unless ``dist`` is given.
    var time: UInt64 = 0
    var dist: Distribution?
    /// Bytes per second, whose time is added to the service time; 0: the length costs nothing.
    var bandwidth: UInt64 = 0
    var servers = 1
    /// Index of this rule's first server in the queue's table of servers.
    var firstServer = 0
    /// Cost of moving to the IO's offset; nil: the offset costs nothing.
    var seek: Seek?

    static let serversMax = 64
    private static let keys = ["time", "bandwidth", "servers"]

    struct Server {
        /// When the server is free, nanoseconds on the device's clock.
        var freeAt: UInt64 = 0
        /// The offset at which the last IO ended.
        var position: UInt64 = 0
    }

    /// The seek times of an arm, nanoseconds.
    struct Seek: Equatable {
        /// Time to the next track (`min_seek`).
        var shortest: UInt64 = 0
        /// Time over half of the device (`half_seek`).
        var half: UInt64 = 0
        /// Time from one end to the other (`max_seek`).
        var longest: UInt64 = 0
        /// Time of one rotation; after a seek the sector is a random part of it away.
        var rotation: UInt64 = 0
        /// Number of heads that the arm moves together, each over an equal part of the device.
        var heads: UInt64 = 1

        static let keys = ["min_seek", "half_seek", "max_seek", "rotation", "heads"]
    }
}

extension RuleService {
    init(_ setting: Setting) throws(ConfigError) {
        guard case .table = setting.value else {
            try readTime(setting)
            return
        }
        guard let parts = setting.parts(named: Self.keys + Seek.keys), !parts.isEmpty else {
            throw setting.refused(
                "a time, a distribution, or { time = \"100us\", bandwidth = \"200M\", servers = 1 }, "
                    + "of a disk with an arm { max_seek = \"16ms\", half_seek, min_seek, rotation, heads } too,"
            )
        }
        for part in parts {
            switch part.key {
            case "time": try readTime(part)
            case "bandwidth": bandwidth = try part.bytes(1...DeviceConfig.sizeMax)
            case "servers": servers = Int(try part.integer(1...Int64(Self.serversMax)))
            default: break
            }
        }
        seek = try Seek(parts.filter { Seek.keys.contains($0.key) })
        if !parts.contains(where: { $0.key != "servers" }) {
            throw setting.refused("time, bandwidth or max_seek beside servers")
        }
    }

    private mutating func readTime(_ setting: Setting) throws(ConfigError) {
        if case .dist(let address) = setting.value {
            dist = Distribution(address: address)
        } else {
            time = try setting.nanoseconds(0...Rule.timeMax)
        }
    }
}

extension RuleService.Seek {
    /// Reads the keys of a seek; fails when there are none.
    fileprivate init?(_ parts: [Setting]) throws(ConfigError) {
        guard let first = parts.first else { return nil }
        guard let longest = parts.first(where: { $0.key == "max_seek" }) else {
            throw ConfigError(
                origin: first.origin,
                text: "\(first.key) needs max_seek, the time from end to end"
            )
        }
        self.longest = try longest.nanoseconds(0...Rule.timeMax)
        if let part = parts.first(where: { $0.key == "min_seek" }) {
            shortest = try part.nanoseconds(0...self.longest)
        }
        half = shortest + (self.longest - shortest) / 2
        for part in parts {
            switch part.key {
            case "half_seek": half = try part.nanoseconds(shortest...self.longest)
            case "rotation": rotation = try part.nanoseconds(0...Rule.timeMax)
            case "heads": heads = UInt64(try part.integer(1...64))
            default: break
            }
        }
    }

    /// The seek time from one offset to another, nanoseconds, without the rotation; nil when the arm need not move.
    func time(from: UInt64, to: UInt64, deviceBytes: UInt64) -> UInt64? {
        let stroke = max(1, deviceBytes / heads)
        // At the end of a head's part the arm is at the far end, not at the start of the next head's part.
        let old = from == 0 ? 0 : (from - 1) % stroke + 1
        let new = to % stroke
        guard from != to, old != new else { return nil }
        let way = Double(old < new ? new - old : old - new) / Double(stroke)
        let time =
            way < 0.5
            ? Double(shortest) + Double(half - shortest) * (2 * way).squareRoot()
            : Double(half) + Double(longest - half) * (2 * way - 1)
        return UInt64(time)
    }
}

extension RuleService {
    /// Queues the IO on the server that can start it first, and returns when it will be done, nanoseconds on the
    /// device's clock.
    ///
    /// Allocates nothing.
    func end(
        _ io: UnsafePointer<us_io>,
        now: UInt64,
        _ stream: UnsafeMutablePointer<SplitMix64>,
        servers table: UnsafeMutablePointer<Server>,
        deviceBytes: UInt64
    ) -> UInt64 {
        let offset = unsafe io.pointee.offset
        let length = unsafe io.pointee.length
        var best = firstServer
        var bestStart = UInt64.max
        var moves = false
        for place in firstServer..<firstServer + servers {
            let server = unsafe table[place]
            var way: UInt64?
            // A flush has no offset, so it needs no seek.
            if let seek, length != 0 {
                way = seek.time(from: server.position, to: offset, deviceBytes: deviceBytes)
            }
            let start = max(server.freeAt, now) + (way ?? 0)
            guard start < bestStart else { continue }
            (best, bestStart, moves) = (place, start, way != nil)
        }
        var end = bestStart + (unsafe cost(length, stream))
        if let seek, moves, seek.rotation != 0 {
            end += unsafe UInt64(stream.pointee.unit() * Double(seek.rotation))
        }
        // Limit the backlog to a year, so that sums cannot overflow.
        end = min(end, now + Rule.timeMax)
        unsafe table[best].freeAt = end
        if length != 0 { unsafe table[best].position = offset &+ length }
        return end
    }

    /// The service time of an IO of that length, nanoseconds, without the seek.
    private func cost(
        _ length: UInt64,
        _ stream: UnsafeMutablePointer<SplitMix64>
    ) -> UInt64 {
        var cost = time
        if let dist { cost = unsafe dist.sample(&stream.pointee) }
        guard bandwidth != 0 else { return cost }
        let (high, low) = length.multipliedFullWidth(by: 1_000_000_000)
        let transfer = high < bandwidth ? bandwidth.dividingFullWidth((high, low)).quotient : .max
        let (sum, overflow) = cost.addingReportingOverflow(transfer)
        return min(overflow ? .max : sum, Rule.timeMax)
    }
}
