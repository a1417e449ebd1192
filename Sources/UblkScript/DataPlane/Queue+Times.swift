import CLua

/// Measuring how long the queue had its requests, for `stats`.
extension Queue where Transport: ~Copyable {
    /// Counts a request that ends.
    ///
    /// By the clock that the queue reads once a turn: what is answered in the turn that brought it took
    /// no time.
    @inline(__always)
    func count(_ tag: Tag, _ result: Int32) {
        let request = requests[tag]
        times.add(
            request.io.op,
            nanoseconds: transport.now.nanoseconds(since: request.arrivedAt),
            bytes: result < 0 ? 0 : request.io.length
        )
    }
}
