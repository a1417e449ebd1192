import CLua

/// How long a rule makes an IO wait, where that is not one fixed time.
///
/// Plain data, a copy a queue; what it points to is shared by all queues or belongs to the script.
struct RuleTiming {
    /// `delay = dist...`: drawn for each IO; waits overlap.
    var delay: Distribution?
    /// `rate`: waits until the tokens are there.
    var bucket: TokenBucket?
    /// `service`: waits add up, as behind a device that does one thing at a time.
    var service: RuleService?
    /// `stall`: when the rule acts, everything that fits waits until the end of this time; 0: none.
    var stall: UInt64 = 0
    /// `stall` as a distribution; then `stall` is 1.
    var stallDist: Distribution?
    /// `cost`: so many times the tokens; 0: not given.
    var cost: UInt64 = 0
    /// `correlation`: the last delay again when a random 64-bit number is below; nil: never.
    var correlation: UInt64?

    static let keys = ["delay", "correlation", "rate", "cost", "service", "stall"]
}

extension RuleTiming {
    /// Takes a setting whose key is `rate`, `service` or `stall`, or a `delay` that is a distribution;
    /// false for any other.
    mutating func read(
        _ setting: Setting,
        _ names: RuleNames
    ) throws(ConfigError) -> Bool {
        switch (setting.key, setting.value) {
        case ("delay", .dist(let address)): delay = Distribution(address: address)
        case ("rate", .bucket(let address)): bucket = TokenBucket(address: address)
        case ("rate", _):
            let rate = try setting.bytes(1...DeviceConfig.sizeMax)
            // Named after the rule, so that all queues take from one.
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
    /// How long the IO has to wait, and takes its place in the queues it waits in.
    ///
    /// Allocates nothing.
    ///
    /// - Parameters:
    ///   - now: on the device's clock.
    ///   - stream: the rule's.
    ///   - lastDelay: the rule's; `.max` before the first.
    ///   - servers: the queue's.
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

    /// A delay; with `correlation` often the one before, which keeps the shape of the distribution and makes runs.
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

    /// How long a stall that begins now lasts.
    func stallTime(_ stream: UnsafeMutablePointer<SplitMix64>) -> UInt64 {
        guard let stallDist else { return stall }
        return unsafe stallDist.sample(&stream.pointee)
    }

    /// Keys that say something about another one need it.
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
