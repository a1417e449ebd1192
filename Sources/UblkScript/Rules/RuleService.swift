import CLua

/// `service`: a device with so many servers, each busy with one IO at a time; waits add up.
///
/// Queue thread; plain data, a copy a queue. A server may be an arm that has to get to where the IO is: seek times as
/// Ruemmler and Wilkes draw them ("An introduction to disk drive modeling", IEEE Computer 1994), growing with the
/// square root of a short distance and evenly with a long one.
struct RuleService {
    var time: UInt64 = 0
    var dist: Distribution?
    /// Bytes a second on top of the time; 0: length costs nothing.
    var bandwidth: UInt64 = 0
    var servers = 1
    /// Where the servers of this rule begin in the queue's table of them.
    var firstServer = 0
    /// nil: the place of an IO costs nothing.
    var seek: Seek?

    static let serversMax = 64
    private static let keys = ["time", "bandwidth", "servers"]

    struct Server {
        /// On the device's clock.
        var freeAt: UInt64 = 0
        /// The byte behind the last IO.
        var position: UInt64 = 0
    }

    /// How long an arm takes; nanoseconds.
    struct Seek: Equatable {
        /// To the next track.
        var shortest: UInt64 = 0
        /// Over half of the device.
        var half: UInt64 = 0
        /// From one end to the other.
        var longest: UInt64 = 0
        /// After a seek the sector is up to one rotation away.
        var rotation: UInt64 = 0
        /// Heads that one arm moves together, each over its part of the device.
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
    /// nil when none of its keys is there.
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

    /// How long the arm takes from the end of one IO to the start of another, without the rotation; nil: it is there.
    func time(from: UInt64, to: UInt64, deviceBytes: UInt64) -> UInt64? {
        let stroke = max(1, deviceBytes / heads)
        // Behind the last byte of a head's part it is at the far end of it, not where the next head's part begins.
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
    /// When the IO is served, by the server that is done with it first; takes its place there.
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
            // A flush has no place.
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
        // More than a year of work is a year of work, so that sums stay in their bounds.
        end = min(end, now + Rule.timeMax)
        unsafe table[best].freeAt = end
        if length != 0 { unsafe table[best].position = offset &+ length }
        return end
    }

    /// How long one IO of that length keeps a server busy once it is there.
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
