import CLua

/// How long a rule makes an IO wait, where that is not one fixed time.
///
/// Plain data, a copy a queue; what it points to is shared by all queues or belongs to the script.
@safe
struct RuleTiming {
    // Safety: a distribution lives as long as the script, a bucket as the shared registry; both outlive
    // the rules.
    /// `delay = dist...`: drawn for each IO; waits overlap.
    var delay: OpaquePointer?
    /// `rate`: waits until the tokens are there.
    var bucket: OpaquePointer?
    /// `service`: waits add up, as behind a device that does one thing at a time.
    var service: Service?
    /// `stall`: when the rule acts, everything that fits waits until the end of this time; 0: none.
    var stall: UInt64 = 0

    var isGiven: Bool { unsafe delay != nil || bucket != nil || service != nil || stall != 0 }

    /// A device with so many servers, each busy with one IO at a time.
    @safe
    struct Service {
        var time: UInt64 = 0
        // Safety: as above.
        var dist: OpaquePointer?
        /// Bytes a second on top of the time; 0: length costs nothing.
        var bandwidth: UInt64 = 0
        var servers = 1
        /// Where the servers of this rule begin in the queue's table of them.
        var firstServer = 0

        static let serversMax = 64
    }

    static let keys = ["delay", "rate", "service", "stall"]
}

extension RuleTiming {
    /// Takes a setting whose key is `rate`, `service` or `stall`, or a `delay` that is a distribution;
    /// false for any other.
    mutating func read(
        _ setting: Setting,
        _ names: RuleNames
    ) throws(ConfigError) -> Bool {
        switch (setting.key, setting.value) {
        case ("delay", .dist(let address)): unsafe delay = OpaquePointer(bitPattern: address)
        case ("rate", .bucket(let address)): unsafe bucket = OpaquePointer(bitPattern: address)
        case ("rate", _):
            let rate = try setting.bytes(1...DeviceConfig.sizeMax)
            // Named after the rule, so that all queues take from one.
            guard
                let made = unsafe names.shared.bucket(
                    "\u{1}rule \(names.bank) \(names.rule)",
                    rate: rate
                )
            else {
                throw ConfigError(origin: setting.origin, text: "rate: out of memory")
            }
            unsafe bucket = made
        case ("service", _): service = try Self.service(setting)
        case ("stall", _): stall = try setting.nanoseconds(1...Rule.timeMax)
        default: return false
        }
        return true
    }

    private static func service(_ setting: Setting) throws(ConfigError) -> Service {
        var service = Service()
        guard case .table = setting.value else {
            try readTime(setting, &service)
            return service
        }
        guard let parts = setting.parts(named: ["time", "bandwidth", "servers"]), !parts.isEmpty
        else {
            throw setting.refused(
                "a time, a distribution, or { time = \"100us\", bandwidth = \"200M\", servers = 1 }"
            )
        }
        for part in parts {
            switch part.key {
            case "time": try readTime(part, &service)
            case "bandwidth": service.bandwidth = try part.bytes(1...DeviceConfig.sizeMax)
            default: service.servers = Int(try part.integer(1...Int64(Service.serversMax)))
            }
        }
        return service
    }

    private static func readTime(
        _ setting: Setting,
        _ service: inout Service
    ) throws(ConfigError) {
        if case .dist(let address) = setting.value {
            unsafe service.dist = OpaquePointer(bitPattern: address)
        } else {
            service.time = try setting.nanoseconds(0...Rule.timeMax)
        }
    }
}

extension RuleTiming.Service {
    /// How long one IO of that length keeps a server busy.
    fileprivate func cost(
        _ length: UInt64,
        _ stream: UnsafeMutablePointer<us_random>
    ) -> UInt64 {
        var cost = time
        if let dist = unsafe dist { cost = unsafe us_dist_sample(dist, stream) }
        guard bandwidth != 0 else { return cost }
        let (high, low) = length.multipliedFullWidth(by: 1_000_000_000)
        let transfer = high < bandwidth ? bandwidth.dividingFullWidth((high, low)).quotient : .max
        let (sum, overflow) = cost.addingReportingOverflow(transfer)
        return min(overflow ? .max : sum, Rule.timeMax)
    }
}

extension RuleTiming {
    /// How long the IO has to wait, and takes its place in the queues it waits in.
    ///
    /// Allocates nothing.
    ///
    /// - Parameters:
    ///   - length: of the IO, bytes.
    ///   - now: on the device's clock.
    ///   - stream: the rule's.
    ///   - servers: when each server of the queue is free again.
    func wait(
        _ length: UInt64,
        now: UInt64,
        _ stream: UnsafeMutablePointer<us_random>,
        servers: UnsafeMutablePointer<UInt64>
    ) -> UInt64 {
        var wait: UInt64 = 0
        if let delay = unsafe delay { wait = unsafe us_dist_sample(delay, stream) }
        if let bucket = unsafe bucket {
            let tokens = unsafe us_bucket_cost(bucket, length)
            wait = unsafe min(wait + us_bucket_take(bucket, tokens, now), Rule.timeMax)
        }
        guard let service else { return wait }
        var free = service.firstServer
        for server in service.firstServer..<service.firstServer + service.servers
        where unsafe servers[server] < servers[free] {
            free = server
        }
        let end = unsafe max(servers[free], now) + service.cost(length, stream)
        unsafe servers[free] = end
        return min(wait + (end - now), Rule.timeMax)
    }
}
