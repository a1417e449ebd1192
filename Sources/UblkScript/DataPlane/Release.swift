import CLua

/// Which held IOs are let go, in which order, and to what.
struct Release: Sendable, Equatable {
    /// Of their arrival at the queue.
    typealias Order = us_release_order

    /// An IO that is held, by where it came in.
    struct Place: Sendable, Equatable {
        let queue: UInt16
        let tag: UInt16
    }

    var order = US_RELEASE_FIFO
    /// Only these, in this order; empty: all.
    var places: [Place] = []
    /// At most so many on each queue.
    var count = Int.max
    /// nil: they end as the script meant.
    var errno: Int32?
}

extension us_release_order {
    static let all = (0..<US_RELEASE_ORDER_COUNT.rawValue).map(us_release_order.init(rawValue:))

    /// As `release` takes it, in a script and at `ctl`.
    var word: String {
        guard let word = unsafe us_release_order_name(rawValue) else { return "?" }
        return unsafe String(cString: word)
    }
}
