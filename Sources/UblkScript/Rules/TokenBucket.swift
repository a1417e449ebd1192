import CLua
import Synchronization

/// A token bucket, which limits bytes or IOs per second over all queues of a device.
///
/// Its state is the time at which it would be full again if nothing more were taken (the generic cell rate algorithm,
/// ITU-T I.371): one atomic number, no refilling, first come first served. Lives as long as the shared objects. Any
/// thread; taking is a compare-and-swap.
@safe
struct TokenBucket: Equatable, Sendable {
    // Safety: made and freed by the shared objects.
    private nonisolated(unsafe) let content: UnsafeMutablePointer<Content>

    private struct Content: ~Copyable {
        /// When the bucket is full, nanoseconds on the device's clock.
        let fullAt = Atomic<UInt64>(0)
        /// Tokens per second.
        let rate = Atomic<UInt64>(1)
        /// Capacity in tokens.
        let burst = Atomic<UInt64>(1)
        let countsIOs = Atomic<Bool>(false)
    }

    struct Rate {
        /// Tokens per second, above 0.
        var rate: UInt64
        /// Capacity in tokens, above 0.
        var burst: UInt64
        /// A token is an IO; otherwise it is a byte.
        var countsIOs = false
    }

    /// The longest time in sums, nanoseconds, so that they cannot overflow.
    private static let timeMax: UInt64 = 1 << 62

    init(_ rate: Rate) {
        unsafe content = .allocate(capacity: 1)
        unsafe content.initialize(to: Content())
        set(rate)
    }

    /// - Parameter address: of a live bucket; 0 makes the initializer fail.
    init?(address: UInt) {
        guard let content = unsafe UnsafeMutablePointer<Content>(bitPattern: address) else {
            return nil
        }
        unsafe self.content = content
    }

    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.content == right.content }

    var address: UInt { unsafe UInt(bitPattern: content) }

    func free() {
        unsafe content.deinitialize(count: 1)
        unsafe content.deallocate()
    }

    /// Changes rate and burst from the next IO on.
    func set(_ rate: Rate) {
        unsafe content.pointee.countsIOs.store(rate.countsIOs, ordering: .relaxed)
        setRate(rate.rate, burst: rate.burst)
    }

    /// Changes rate and burst from the next IO on; what a token is stays.
    fileprivate func setRate(_ rate: UInt64, burst: UInt64) {
        unsafe content.pointee.rate.store(rate, ordering: .relaxed)
        unsafe content.pointee.burst.store(burst, ordering: .relaxed)
    }

    /// Fills the bucket.
    func refill() { unsafe content.pointee.fullAt.store(0, ordering: .relaxed) }

    /// Tokens per second.
    var rate: UInt64 { unsafe content.pointee.rate.load(ordering: .relaxed) }

    /// The tokens that an IO of that length takes: its bytes, or 1.
    func cost(length: UInt64) -> UInt64 {
        unsafe content.pointee.countsIOs.load(ordering: .relaxed) ? 1 : length
    }

    /// Takes tokens and returns how many nanoseconds they have to be waited for: 0 while the bucket has enough.
    ///
    /// - Parameter now: nanoseconds on the device's clock.
    func take(_ tokens: UInt64, now: UInt64) -> UInt64 {
        let rate = rate
        let burst = unsafe Self.time(of: content.pointee.burst.load(ordering: .relaxed), rate)
        let cost = Self.time(of: tokens, rate)
        var old = unsafe content.pointee.fullAt.load(ordering: .relaxed)
        while true {
            let from = max(old, now)
            let new = from < Self.timeMax ? from &+ cost : from
            let (isDone, found) = unsafe content.pointee.fullAt.weakCompareExchange(
                expected: old,
                desired: new,
                ordering: .relaxed
            )
            // An empty bucket is full after the time of one burst; any time beyond that has to be waited for.
            if isDone { return new &- now > burst ? new &- now &- burst : 0 }
            old = found
        }
    }

    /// The nanoseconds in which that many tokens arrive, at most 2^62.
    @inline(__always)
    private static func time(of tokens: UInt64, _ rate: UInt64) -> UInt64 {
        let (product, overflow) = tokens.multipliedReportingOverflow(by: 1_000_000_000)
        if !overflow { return min(product / rate, timeMax) }
        let (high, low) = tokens.multipliedFullWidth(by: 1_000_000_000)
        return high < rate ? min(rate.dividingFullWidth((high, low)).quotient, timeMax) : timeMax
    }
}

extension TokenBucket {
    /// - Parameter address: of a live bucket, not nil.
    fileprivate init(_ address: OpaquePointer?) {
        unsafe content = UnsafeMutablePointer(address.unsafelyUnwrapped)
    }
}

extension us_bucket_functions {
    static var table: Self {
        unsafe Self(
            named: { shared, name, length, rate in
                unsafe SharedObjects.with(shared) {
                    let name = unsafe UnsafeRawBufferPointer(start: name, count: length)
                    let rate = unsafe TokenBucket.Rate(rate.unsafelyUnwrapped.pointee)
                    let bucket = unsafe $0.bucket(name, rate)
                    return unsafe OpaquePointer(bitPattern: bucket?.address ?? 0)
                }
            },
            anonymous: { shared, bank, queue, number, rate in
                unsafe SharedObjects.with(shared) {
                    let owner = SharedObjects.Owner.script(
                        bank: Int(bank),
                        queue: queue,
                        number: number
                    )
                    let rate = unsafe TokenBucket.Rate(rate.unsafelyUnwrapped.pointee)
                    return unsafe OpaquePointer(
                        bitPattern: $0.bucket(of: owner, rate)?.address ?? 0
                    )
                }
            },
            take: { unsafe TokenBucket($0).take($1, now: $2) },
            set_rate: { unsafe TokenBucket($0).setRate($1, burst: $2) },
            rate: { unsafe TokenBucket($0).rate }
        )
    }
}

extension TokenBucket.Rate {
    fileprivate init(_ rate: us_bucket_rate) {
        self.init(rate: rate.rate, burst: rate.burst, countsIOs: rate.counts_ios)
    }
}
