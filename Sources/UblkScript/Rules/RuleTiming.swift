import CLua

/// The delay of a rule, when that is not one fixed time.
///
/// Plain data; each queue has its own copy. Distributions belong to the script, buckets to all queues. Times are
/// nanoseconds.
struct RuleTiming {
    /// `delay = dist...`: drawn for each IO, independently of other IOs.
    var delay: Distribution?
    /// `rate`: the IO waits until the bucket has its tokens.
    var bucket: TokenBucket?
    /// `service`: the IO waits for those before it, as on a device that serves a limited number at a time.
    var service: RuleService?
    /// `stall`: once the rule acts, all matching IOs wait until this time has passed; 0: none.
    var stall: UInt64 = 0
    /// `stall` as a distribution; ``stall`` is 1 then.
    var stallDist: Distribution?
    /// `cost`: factor of the tokens that an IO takes; 0: not given.
    var cost: UInt64 = 0
    /// `correlation`: the last delay is repeated when a random 64-bit number is below this one; nil: never.
    var correlation: UInt64?

    static let keys = ["delay", "correlation", "rate", "cost", "service", "stall"]
}

extension RuleTiming {
    /// Takes a setting with one of ``keys``; false for any other, and for a `delay` that is not a distribution.
    mutating func read(
        _ setting: Setting,
        _ names: RuleNames
    ) throws(ConfigError) -> Bool {
        switch (setting.key, setting.value) {
        case ("delay", .dist(let address)): delay = Distribution(address: address)
        case ("rate", .bucket(let address)): bucket = TokenBucket(address: address)
        case ("rate", _):
            let rate = try setting.bytes(1...DeviceConfig.sizeMax)
            // Identified by the rule, so that all queues share one bucket.
            let owner = SharedObjects.Owner.rule(bank: names.bank, number: names.rule)
            let usual = TokenBucket.Rate(rate: rate, burst: max(1, rate / 10))
            guard let made = names.shared.bucket(of: owner, usual) else {
                throw ConfigError(origin: setting.origin, text: "rate: too many buckets")
            }
            bucket = made
        case ("service", _): service = try RuleService(setting)
        case ("stall", .dist(let address)):
            stallDist = Distribution(address: address)
            stall = 1
        case ("cost", _): cost = UInt64(try setting.integer(1...1_000_000_000))
        case ("correlation", _):
            correlation = UInt64(min(try setting.number(0...1) * 0x1p64, 0x1.fffffffffffffp63))
        case ("stall", _): stall = try setting.nanoseconds(1...Rule.timeMax)
        default: return false
        }
        return true
    }
}

extension RuleTiming {
    /// Takes the IO's tokens and its slot at a server, and returns how long it has to wait, at most 366 days.
    ///
    /// Allocates nothing.
    ///
    /// - Parameters:
    ///   - now: nanoseconds on the device's clock.
    ///   - stream: the rule's random stream.
    ///   - lastDelay: the rule's last delay; `.max` before the first.
    ///   - servers: the queue's table of servers.
    ///   - deviceBytes: the device's size.
    func wait(
        _ io: UnsafePointer<us_io>,
        now: UInt64,
        _ stream: UnsafeMutablePointer<SplitMix64>,
        lastDelay: UnsafeMutablePointer<UInt64>,
        servers: UnsafeMutablePointer<RuleService.Server>,
        deviceBytes: UInt64
    ) -> UInt64 {
        var wait: UInt64 = 0
        if let delay { wait = unsafe draw(delay, stream, lastDelay) }
        if let bucket {
            let tokens = unsafe bucket.cost(length: io.pointee.length) &* max(1, cost)
            wait = min(wait + bucket.take(tokens, now: now), Rule.timeMax)
        }
        guard let service else { return wait }
        let end = unsafe service.end(
            io,
            now: now,
            stream,
            servers: servers,
            deviceBytes: deviceBytes
        )
        return min(wait + (end - now), Rule.timeMax)
    }

    /// Draws a delay; `correlation` repeats the last one at times, which makes runs but keeps the distribution.
    private func draw(
        _ delay: Distribution,
        _ stream: UnsafeMutablePointer<SplitMix64>,
        _ last: UnsafeMutablePointer<UInt64>
    ) -> UInt64 {
        if let correlation, unsafe stream.pointee.next() < correlation, unsafe last.pointee != .max
        {
            return unsafe last.pointee
        }
        unsafe last.pointee = delay.sample(&stream.pointee)
        return unsafe last.pointee
    }

    /// The length of a stall that begins now, nanoseconds.
    func stallTime(_ stream: UnsafeMutablePointer<SplitMix64>) -> UInt64 {
        guard let stallDist else { return stall }
        return unsafe stallDist.sample(&stream.pointee)
    }

    /// Refuses `correlation` and `cost` without the key that they modify.
    func check(origin: String) throws(ConfigError) {
        if correlation != nil, delay == nil {
            throw ConfigError(
                origin: origin,
                text: "correlation needs a delay that is a distribution"
            )
        }
        if cost != 0, bucket == nil {
            throw ConfigError(origin: origin, text: "cost needs the rate that it is taken from")
        }
    }
}
