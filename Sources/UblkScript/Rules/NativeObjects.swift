import CLua

/// The objects that scripts hold, as the Lua functions in C reach them: one table of functions that C may call.
///
/// None of them calls Lua, so Lua never unwinds through Swift. The hot path, which is Swift, does not come this way.
enum NativeObjects {
    /// Handed over once, before the first Lua state is made.
    private static let isHandedOver: Bool = {
        var functions = unsafe us_object_functions(
            random: .table,
            hash: { unsafe DataHash.of($0, length: $1) },
            dist: .table,
            cell: .table,
            bucket: .table,
            dict: .table,
            ranges: .table
        )
        unsafe us_use_objects(&functions)
        return true
    }()

    /// Whoever makes a Lua state calls this first.
    static func handOver() { _ = isHandedOver }

    /// From a stream that C keeps.
    @inline(__always)
    fileprivate static func draw<Number>(
        _ stream: UnsafeMutablePointer<us_random>?,
        _ body: (inout SplitMix64) -> Number
    ) -> Number {
        let stream = unsafe stream.unsafelyUnwrapped
        var numbers = unsafe SplitMix64(state: stream.pointee.state)
        defer { unsafe stream.pointee.state = numbers.state }
        return body(&numbers)
    }
}

extension us_random_functions {
    static var table: Self {
        unsafe Self(
            stream: { us_random(state: SplitMix64(seed: $0, queue: $1, stream: $2).state) },
            next: { stream in unsafe NativeObjects.draw(stream) { $0.next() } },
            unit: { stream in unsafe NativeObjects.draw(stream) { $0.unit() } }
        )
    }
}
